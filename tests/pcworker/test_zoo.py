"""Named networks that are graphs: planning's facts are true, and Z-IL is exactly BP on each.

The oracle is torch.autograd + torch.optim.SGD on the module itself, on real MNIST.
"""

import copy
from pathlib import Path

import pytest
import reference
import torch
from torch import Tensor, nn

from pcworker.data.generators import draw_parameters
from pcworker.data.mnist import Digits
from pcworker.data.picture_sets import Pictures, picture_set
from pcworker.data.shown import PicturesSeen
from pcworker.errors import InputError
from pcworker.networks.graph.network import predictive_graph
from pcworker.networks.graph.trace import operations
from pcworker.networks.method import Method
from pcworker.networks.zoo.build import build_graph, freeze_statistics, own_network
from pcworker.networks.zoo.facts import GRAPHS, LARGE, SMALL, graph_facts

RATE = 0.0025
SWEEP, LITERAL = Method(rule="Z-IL"), Method(rule="Z-IL", schedule="literal")


def shown(digits: Digits, network: str, dtype: torch.dtype, cpu: torch.device) -> PicturesSeen:
    train, test = (each[:1000].reshape(-1, 1, 28, 28) for each in digits[::2])
    pictures = Pictures(train, digits.train_labels[:1000], test, digits.test_labels[:1000])
    return PicturesSeen(pictures, picture_set("mnist"), GRAPHS[network].view, dtype, cpu)


def parameters(network: nn.Module) -> list[Tensor]:
    return [p.detach() for p in network.parameters()]


def equal(ours: nn.Module, theirs: nn.Module) -> bool:
    return all(map(torch.equal, parameters(ours), parameters(theirs)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", GRAPHS)
def test_z_il_is_backprop_on_every_named_network(
    cpu: torch.device, digits: Digits, name: str, dtype: torch.dtype
) -> None:
    """50 updates layerwise, fewer of ResNet-18, and the first of them literally."""
    data, size = shown(digits, name, dtype, cpu), 4
    updates, literally = (2, 1) if name == "resnet18" else (50, 2)
    network = build_graph(name, 5, SMALL, 10, dtype)
    freeze_statistics(network, next(data.training(5, 100)).inputs)
    theirs, ours, literal = (copy.deepcopy(network) for _ in range(3))
    optimiser = torch.optim.SGD(theirs.parameters(), lr=RATE)
    sweep, steps = (predictive_graph(each, GRAPHS[name].cuts) for each in (ours, literal))
    for update, batch in zip(range(updates), data.training(5, size), strict=False):
        reference.train_step(theirs, optimiser, *batch)
        sweep.update(*batch, RATE, SWEEP)
        assert equal(ours, theirs)
        if update < literally:
            steps.update(*batch, RATE, LITERAL)
            assert equal(literal, theirs)
    assert not equal(ours, network)
    assert all(bool(p.isfinite().all()) for p in parameters(ours))


@pytest.mark.parametrize("name", GRAPHS)
def test_planning_knows_the_sizes(name: str) -> None:
    for shape, sizes in GRAPHS[name].sizes.items():
        network = build_graph(name, 1, shape, 1000 if shape == LARGE else 10).eval()
        graph = predictive_graph(network, GRAPHS[name].cuts)
        assert sum(p.numel() for p in network.parameters()) == sizes.parameters
        assert max(graph.graph.levels.values()) + 1 == sizes.levels
        assert len(operations(network)) - 2 == sizes.operations  # without the input and the output


@pytest.mark.parametrize("name", ["resnet18", "transformer"])
def test_initial_weights_depend_on_the_seed_alone(name: str) -> None:
    first = build_graph(name, 7, SMALL, 10)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    assert equal(build_graph(name, 7, SMALL, 10), first)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not equal(build_graph(name, 8, SMALL, 10), first)


def test_normalisation_begins_as_the_identity() -> None:
    """Drawn like other weights, those of a normalisation would be anything from -1 to 1."""
    norm = build_graph("resnet18", 7, SMALL, 10).get_submodule("bn1")
    assert torch.equal(norm.get_parameter("weight"), torch.ones(64))
    assert torch.equal(norm.get_parameter("bias"), torch.zeros(64))


def test_batch_normalisation_keeps_the_statistics_of_its_inputs() -> None:
    network = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))
    draw_parameters(network, 1)
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(3)) * 5 + 2
    freeze_statistics(network, x)
    assert not network.training
    norm = network[0]
    assert torch.allclose(norm.running_mean, x.mean(0))
    assert torch.allclose(norm.running_var, x.var(0))


def test_a_residual_block_of_two_vertices_has_one_identity_vertex() -> None:
    for name, blocks in (("resnet18", 8), ("resnet-small", 3)):
        network = build_graph(name, 1, SMALL, 10).eval()
        graph = predictive_graph(network, GRAPHS[name].cuts).graph
        assert sum(map(graph.delay, graph.uses)) == blocks


def test_what_each_vertex_predicts_can_be_asked(cpu: torch.device, digits: Digits) -> None:
    network = build_graph("unet", 1, SMALL, 10)
    inputs = next(shown(digits, "unet", torch.float32, cpu).training(1, 3)).inputs
    found = predictive_graph(network).activities(inputs)
    assert torch.equal(found["last"], network(inputs))
    assert found["top"].shape == (3, 8, 28, 28)


def test_the_level_of_a_shared_parameter_is_that_of_its_last_change() -> None:
    network = build_graph("rnn", 1, SMALL, 10)
    graph = predictive_graph(network)
    level = {name: graph.level_of(p) for name, p in network.named_parameters()}
    assert level["last.weight"] == 0
    assert level["enter.weight"] == graph.l_max - 1
    assert graph.level_of(nn.Parameter(torch.zeros(1))) == -1


def test_a_network_of_ones_own_is_a_function_in_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine_of_zoo.py").write_text(
        "from torch import nn\n"
        "def flat(): return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))\n"
        "def wrong(): return 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    first, again = (build_graph("mine_of_zoo:flat", 2, SMALL, 10) for _ in range(2))
    assert equal(first, again)
    with pytest.raises(InputError, match="returns a int; it must return"):
        own_network("mine_of_zoo:wrong")
    with pytest.raises(InputError, match=r"'mine_of_zoo:absent' cannot be made \(AttributeError"):
        own_network("mine_of_zoo:absent")
    with pytest.raises(InputError, match=r"cannot be made \(ModuleNotFoundError"):
        own_network("nowhere_at_all:make")


def test_an_unknown_name_is_refused() -> None:
    assert graph_facts("a.b:c") is None
    for name in ("resnet", "a:b:c", ":c"):
        with pytest.raises(InputError, match="allowed: cnn, resnet-small"):
            graph_facts(name)
