"""Networks of any modules learn by the very same equations: as exact as the stacks of MNIST.

The oracles are torch.autograd + torch.optim.SGD (bit for bit), the stacks of dense layers (bit for
bit), `oracle` on convolutions written out as matrices (1e-10), and finite differences.
"""

import copy
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import islice, pairwise, product

import numpy as np
import oracle
import pytest
import reference
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pcworker.data.generators import draw_parameters, generator
from pcworker.data.randomness import initial_parameters
from pcworker.errors import InputError
from pcworker.kernels.stack import Stack
from pcworker.networks.catalogue import NETWORKS
from pcworker.networks.method import Method
from pcworker.networks.module_layer import ModuleLayer
from pcworker.networks.named import build, define
from pcworker.networks.predictive_network import PredictiveNetwork
from pcworker.networks.sequential import predictive
from pcworker.training.engine import Engine
from pcworker.trials.configuration import configuration
from pcworker.trials.trial import Trial

SEED = 698841058
RATE = 0.001
Z_IL = {schedule: Method(rule="Z-IL", schedule=schedule) for schedule in ("layerwise", "literal")}


def batches(shape: tuple[int, ...], classes: int, size: int = 2) -> Iterator[tuple[Tensor, Tensor]]:
    source = generator(SEED, "test batches")
    while True:
        labels = torch.randint(0, classes, (size,), generator=source)
        targets = nn.functional.one_hot(labels, classes).float()
        yield torch.randn(size, *shape, generator=source), targets


def narrow(name: str) -> nn.Sequential:
    """The convolutions of a network under a classifier of 64 units where it has 4,096: an update
    spends most of its time in the weights of those."""
    network = define(name)
    linears = [k for k, module in enumerate(network.classifier) if isinstance(module, nn.Linear)]
    widths = [network.classifier[linears[0]].in_features, 64, 64, 1000]
    with torch.device("meta"):
        for k, (m, n) in zip(linears, pairwise(widths), strict=True):
            network.classifier[k] = nn.Linear(m, n)
    network = network.to_empty(device="cpu")
    draw_parameters(network, SEED)
    return network


def whole(name: str) -> nn.Sequential:
    return build(name, SEED)


def equal(ours: nn.Module, theirs: nn.Module) -> bool:
    pairs = zip(ours.parameters(), theirs.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def apart(ours: nn.Module, theirs: nn.Module) -> float:
    pairs = zip(ours.parameters(), theirs.parameters(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


def compare(
    network: nn.Sequential, shape: tuple[int, ...], methods: list[Method], updates: int
) -> tuple[nn.Sequential, list[nn.Sequential]]:
    """Trains copies of a network on the same batches: by BP, as torchvision does it with ReLUs that
    work in place, and by each method."""
    copies = [copy.deepcopy(network) for _ in methods]
    pcns = [predictive(each) for each in copies]
    optimiser = torch.optim.SGD(network.parameters(), lr=RATE)
    classes = list(network.parameters())[-1].shape[0]
    for x, y in islice(batches(shape, classes), updates):
        reference.train_step(network, optimiser, x, y)
        for method, pcn in zip(methods, pcns, strict=True):
            pcn.update(x, y, RATE, method)
    return network, copies


@pytest.mark.parametrize(
    ("name", "make", "shape", "updates"),
    [
        ("small-conv", whole, (3, 16, 16), 20),
        ("alexnet", narrow, (3, 64, 64), 4),
        ("vgg11", narrow, (3, 32, 32), 4),
        pytest.param("alexnet", whole, (3, 64, 64), 20, marks=pytest.mark.long),
        pytest.param("vgg11", narrow, (3, 32, 32), 20, marks=pytest.mark.long),
    ],
)
def test_z_il_equals_autograd_in_every_parameter(
    cpu: torch.device,
    name: str,
    make: Callable[[str], nn.Sequential],
    shape: tuple[int, ...],
    updates: int,
) -> None:
    network = make(name)
    first = copy.deepcopy(network)
    backprop, copies = compare(network, shape, list(Z_IL.values()), updates)
    assert not equal(backprop, first)
    for schedule, ours in zip(Z_IL, copies, strict=True):
        for (label, mine), theirs in zip(
            ours.named_parameters(), backprop.parameters(), strict=True
        ):
            assert torch.equal(mine, theirs), (schedule, label)


def test_conditions_that_are_broken_are_noticed(cpu: torch.device) -> None:
    """The equality above would show nothing if these were equal too."""
    methods = [Method(rule="Z-IL", gamma=1.001), Method(rule="IL", t=3), Method(rule="IL", t=20)]
    backprop, copies = compare(build("small-conv", SEED), (3, 16, 16), methods, updates=2)
    assert not any(equal(ours, backprop) for ours in copies)


def test_fa_z_il_on_a_relu_network_is_exact_layerwise_and_not_literally(cpu: torch.device) -> None:
    """This pins a finding: a neuron that f' = 0 silences at t = l fires later, and only the literal
    schedule listens for that."""
    methods = [Method(rule="Fa-Z-IL", schedule=schedule) for schedule in ("layerwise", "literal")]
    backprop, copies = compare(build("small-conv", SEED), (3, 16, 16), methods, updates=20)
    assert equal(copies[0], backprop)
    assert 1e-5 < apart(copies[1], backprop) < 1


RULES = [{"rule": "IL", "t": 0}, {"rule": "IL", "t": 2}, {"rule": "IL", "t": 16}]
RULES += [{"rule": "Z-IL"}, {"rule": "Fa-Z-IL", "t_d": 1, "horizon": 6}]


@pytest.mark.parametrize("schedule", ["layerwise", "literal"])
@pytest.mark.parametrize("arithmetic", ["displacement", "textbook"])
@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
def test_dense_layers_as_modules_give_the_bits_of_a_stack(
    small_engine: Engine, activation: str, arithmetic: str, schedule: str
) -> None:
    for rule, gamma, sigma in product(RULES, (0.1, 1.0), (0.0, 0.1)):
        bias = gamma == 1.0
        how = {"gamma": gamma, "sigma": sigma, "schedule": schedule, "arithmetic": arithmetic}
        config = configuration(
            network="784-32-32-32-10",
            activation=activation,
            bias=bias,
            init="linear",
            **rule,
            **how,
        )
        stack = Stack([Trial(config, SEED)], small_engine.data.device)
        model = reference.network(initial_parameters(config, SEED), activation)
        pcn, method = predictive(model), Method(**rule, **how)
        for batch in islice(small_engine.data.batches(config, SEED, 1, noisy=True), 5):
            stack.update({SEED: batch}, RATE)
            noise = batch.noise if sigma else ()
            pcn.update(batch.inputs, batch.targets, RATE, method, noise)
        assert reference.equal(stack.parameters(0), reference.parameters(model)), config


def unrolled(weight: np.ndarray, size: int, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Writes out by loops a 3x3 convolution with padding 1 of size x size images.

    Returns it as a matrix [units below, units above], and for each entry the index of the weight
    that it is (-1 where it is none: the entry is 0).
    """
    outputs, inputs = weight.shape[:2]
    below = -(-size // stride)
    which = np.full((outputs, below, below, inputs, size, size), -1)
    places = np.arange(weight.size).reshape(weight.shape)
    for o, i, row, column, k, m in np.ndindex(outputs, inputs, below, below, 3, 3):
        r, c = row * stride + k - 1, column * stride + m - 1
        if 0 <= r < size and 0 <= c < size:
            which[o, row, column, i, r, c] = places[o, i, k, m]
    which = which.reshape(outputs * below**2, inputs * size**2)
    return np.where(which < 0, 0.0, weight.ravel()[which]), which


@pytest.mark.parametrize(
    ("rule", "sigma"),
    [({"rule": "IL", "t": t}, sigma) for t in (1, 20) for sigma in (0.0, 0.1)]
    + [({"rule": "Z-IL"}, 0.1), ({"rule": "Fa-Z-IL", "t_d": 2, "horizon": 5}, 0.0)],
)
@pytest.mark.parametrize("arithmetic", ["displacement", "textbook"])
def test_convolutions_agree_with_the_numpy_oracle(
    rule: dict, sigma: float, arithmetic: str
) -> None:
    """The oracle has every convolution as a matrix, so that the network is the paper's. The change
    of a weight is the sum of the changes of its entries."""
    random = generator(SEED, "oracle")
    size, channels, strides = 6, (2, 3, 4), (1, 2)
    convolutions = [
        nn.Conv2d(channels[k], channels[k + 1], 3, strides[k], 1, dtype=torch.float64)
        for k in range(2)
    ]
    linear = nn.Linear(4 * 3 * 3, 5, dtype=torch.float64)
    network = nn.Sequential(
        convolutions[0], nn.Tanh(), convolutions[1], nn.Tanh(), nn.Flatten(), linear
    )
    pcn = predictive(network)
    method = Method(**rule, gamma=0.3, sigma=sigma, arithmetic=arithmetic)
    for _ in range(3):
        x, y, *noise = (
            torch.randn(2, *shape, generator=random, dtype=torch.float64)
            for shape in ((2, 6, 6), (5,), (3, 6, 6), (4, 3, 3))
        )
        parameters = [[p.detach().numpy().copy() for p in m.parameters()]
                      for m in (linear, convolutions[1], convolutions[0])]  # fmt: skip
        deep = [unrolled(parameters[l][0], size, strides[2 - l]) for l in (1, 2)]
        theta = [parameters[0][0], *(matrix for matrix, _ in deep)]
        bias = [np.repeat(b, len(t) // len(b)) for (_, b), t in zip(parameters, theta, strict=True)]
        flat = {2: noise[0].flatten(1).numpy(), 1: noise[1].flatten(1).numpy()}
        moved, moved_bias = oracle.pc_update(
            theta, bias, x.flatten(1).numpy(), y.numpy(), f="tanh", alpha=0.1, gamma=0.3,
            sigma=sigma, noise=flat, **rule,
        )  # fmt: skip
        pcn.update(x, y, 0.1, method, noise if sigma else ())
        for l, module in enumerate((linear, convolutions[1], convolutions[0])):
            weight, b = parameters[l]
            change = moved[l] - theta[l]
            if l > 0:
                which = deep[l - 1][1]
                inside = which >= 0
                summed = np.bincount(which[inside], change[inside], weight.size)
                change = summed.reshape(weight.shape)
            change_b = (moved_bias[l] - bias[l]).reshape(len(b), -1).sum(1)
            assert np.abs(module.weight.detach().numpy() - weight - change).max() < 1e-10
            assert np.abs(module.bias.detach().numpy() - b - change_b).max() < 1e-10


@torch.no_grad()
def test_a_layer_pulls_back_and_learns_by_the_derivatives_of_its_prediction() -> None:
    """The oracle is central differences of <eps, mu> in float64, by x and by every parameter."""
    random = generator(SEED, "differences")
    module = nn.Sequential(nn.Softplus(), nn.AvgPool2d(2), nn.Conv2d(2, 3, 3, dtype=torch.float64))
    parameters = list(module.parameters())
    x = torch.randn(2, 2, 8, 8, generator=random, dtype=torch.float64)
    eps = torch.randn(2, 3, 2, 2, generator=random, dtype=torch.float64)

    def derivative(values: Tensor) -> Tensor:
        flat, result = values.view(-1), torch.empty(values.numel(), dtype=torch.float64)
        for i in range(len(flat)):
            kept = flat[i].item()
            ends = []
            for value in (kept + 1e-5, kept - 1e-5):
                flat[i] = value
                ends.append((eps * module(x)).sum())
            flat[i] = kept
            result[i] = (ends[0] - ends[1]) / 2e-5
        return result.view(values.shape)

    expected = [derivative(values) for values in (x, *parameters)]
    for learns in (True, False):
        layer = ModuleLayer(module, parameters, clamped=False)
        before = [p.clone() for p in parameters]
        layer.predict(x, x)
        pulled = layer.pull_back(eps, x, None, learns)
        layer.learn(eps, x, 0.5)
        changes = [(p - b) / 0.5 for p, b in zip(parameters, before, strict=True)]
        for ours, wanted in zip([pulled, *changes], expected, strict=True):
            torch.testing.assert_close(ours, wanted, rtol=1e-7, atol=1e-8)
        for p, b in zip(parameters, before, strict=True):
            p.copy_(b)


def test_layerwise_z_il_predicts_each_layer_once_and_differentiates_it_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    predictions: list[nn.Module] = []
    derivatives: list[int] = []
    grad = torch.autograd.grad

    def counted(*args: object, **kwargs: object) -> tuple[Tensor, ...]:
        derivatives.append(1)
        return grad(*args, **kwargs)

    pcn = predictive(build("small-conv", SEED))
    for module in pcn.modules:
        module.register_forward_hook(lambda module, *_: predictions.append(module))
    monkeypatch.setattr(torch.autograd, "grad", counted)
    x, y = next(batches((3, 16, 16), 10))
    pcn.update(x, y, RATE, Z_IL["layerwise"])
    assert (predictions, len(derivatives)) == ([*reversed(pcn.modules)], pcn.l_max)


@pytest.mark.parametrize("rule", [{"rule": "IL", "t": 2}, {"rule": "Z-IL"}, {"rule": "Fa-Z-IL"}])
def test_nothing_of_an_update_stays_in_memory(rule: dict) -> None:
    activities = []
    pcn = predictive(build("small-conv", SEED))
    for module in pcn.modules:
        module.register_forward_hook(lambda _, x, mu: activities.extend(map(weakref.ref, (*x, mu))))
    x, y = next(batches((3, 16, 16), 10))
    pcn.update(x, y, RATE, Method(**rule))
    assert len(activities) >= 2 * pcn.l_max
    assert not [activity for activity in activities if activity() is not None]


def test_the_users_network_keeps_its_modules_and_learns() -> None:
    network = build("small-conv", SEED)
    first = copy.deepcopy(network)
    pcn = predictive(network)
    for x, y in islice(batches((3, 16, 16), 10), 2):
        kept = x.clone()
        pcn.update(x, y, RATE, Z_IL["layerwise"])
        assert torch.equal(x, kept)
    assert network[1].inplace
    assert not equal(network, first)


def kinds(pcn: PredictiveNetwork) -> list[list[str]]:
    return [[type(part).__name__ for part in module] for module in pcn.modules]


def test_cuts_say_where_layers_end() -> None:
    network = nn.Sequential(
        OrderedDict(
            features=nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU()),
            flatten=nn.Flatten(),
            classifier=nn.Sequential(nn.Linear(16, 8), nn.Softplus(), nn.Linear(8, 2), nn.Tanh()),
        )
    )
    assert kinds(predictive(network)) == [
        ["Softplus", "Linear", "Tanh"],
        ["ReLU", "Flatten", "Linear"],
        ["ReLU", "Conv2d"],
        ["Conv2d"],
    ]
    assert kinds(predictive(network, cuts=["features.3", "classifier.1"])) == [
        ["Linear", "Tanh"],
        ["Flatten", "Linear", "Softplus"],
        ["Conv2d", "ReLU", "Conv2d", "ReLU"],
    ]
    assert kinds(predictive(network[0], cuts=[1, 3])) == [["Conv2d", "ReLU"], ["Conv2d", "ReLU"]]
    with pytest.raises(InputError, match=r"features.9.*features.0, features.1.*classifier.3"):
        predictive(network, cuts=["features.9"])


def tied() -> nn.Sequential:
    linear = nn.Linear(4, 4)
    return nn.Sequential(linear, nn.Tanh(), linear)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)), r"1: Dropout.*network.eval\(\)"),
        (nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), "1: BatchNorm1d.*normalisation-free"),
        (tied(), "weight .4, 4. belongs to two layers"),
        (nn.Linear(4, 4), "a Linear: give an nn.Sequential"),
        (nn.Sequential(nn.Tanh()), "no parameters"),
    ],
)
def test_what_cannot_be_a_layer_is_refused(network: nn.Sequential, message: str) -> None:
    with pytest.raises(InputError, match=message):
        predictive(network)
    if "network.eval" in message:
        predictive(network.eval())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rule": "BP"}, "BP.*allowed: IL, Z-IL, Fa-Z-IL"),
        ({"rule": "IL"}, "IL needs t"),
        ({"rule": "IL", "t": -1}, "t -1: must be a whole number of at least 0"),
        ({"rule": "Z-IL", "gamma": 0}, "gamma 0"),
        ({"rule": "Z-IL", "schedule": "lazy"}, "schedule 'lazy'.*layerwise, literal"),
    ],
)
def test_methods_are_checked(values: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Method(**values)


def test_noise_is_asked_for_where_sigma_is_not_0() -> None:
    x, y = next(batches((3, 16, 16), 10))
    with pytest.raises(InputError, match="0 tensors of noise for 3 hidden layers"):
        predictive(build("small-conv", SEED)).update(x, y, RATE, Method(rule="Z-IL", sigma=1.0))


def test_targets_of_another_shape_are_refused_before_anything_is_learnt() -> None:
    network = build("small-conv", SEED)
    first = copy.deepcopy(network)
    x, y = next(batches((3, 16, 16), 10))
    with pytest.raises(InputError, match=r"\(10,\): the network's output is \(2, 10\)"):
        predictive(network).update(x, y[0], RATE, Z_IL["layerwise"])
    assert equal(network, first)


def test_layers_without_parameters_and_modules_used_twice_are_exact_too(cpu: torch.device) -> None:
    tanh = nn.Tanh()
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 8), tanh, nn.Linear(8, 8), tanh)
    network.append(nn.Linear(8, 3))
    draw_parameters(network, SEED)
    ours = copy.deepcopy(network)
    pcn = predictive(ours, cuts=[0, 1, 2, 3, 4])
    assert pcn.l_max == 6
    optimiser = torch.optim.SGD(network.parameters(), lr=RATE)
    for x, y in islice(batches((3, 4, 4), 3), 20):
        reference.train_step(network, optimiser, x, y)
        pcn.update(x, y, RATE, Z_IL["literal"])
    assert equal(ours, network)


def test_named_networks_come_from_the_seed_alone() -> None:
    state = torch.get_rng_state()
    single, again, other = (build("small-conv", seed) for seed in (1, 1, 2))
    double = build("small-conv", 1, torch.float64)
    assert equal(single, again)
    assert not equal(single, other)
    assert equal(single, double.float())
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(InputError, match="'resnet' is unknown; allowed: mlp, alexnet, vgg11"):
        build("resnet", 1)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("mlp", 78_109_160), ("alexnet", 61_100_840), ("vgg11", 132_863_336), ("vgg13", 133_047_848),
     ("vgg16", 138_357_544), ("vgg19", 143_667_240)],
)  # fmt: skip
def test_named_networks_have_the_parameters_that_torchvisions_documentation_gives(
    name: str, parameters: int
) -> None:
    assert NETWORKS[name].parameters == parameters


@pytest.mark.parametrize("name", NETWORKS)
def test_the_catalogue_tells_the_truth_of_every_network(name: str) -> None:
    """The oracles are the networks themselves, and torch's own count of operations."""
    facts, network = NETWORKS[name], define(name)
    with FlopCounterMode(display=False) as operations:
        output = network(torch.empty(2, *facts.input_shape, device="meta"))
    assert output.shape == (2, facts.classes)
    assert sum(p.numel() for p in network.parameters()) == facts.parameters
    assert operations.get_total_flops() == 2 * 2 * facts.multiplications
    assert predictive(network).l_max == facts.layers
