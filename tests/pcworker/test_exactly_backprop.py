"""Z-IL at t = l, gamma = 1, sigma = 0 is backpropagation: the same bits, not nearly the same.

The oracle is `reference`: unbatched torch.autograd + torch.optim.SGD on nn.Linear. Everything is
compared with torch.equal: after 150 updates of MNIST in `make test`, after 3,000 (an epoch) and
10,000 in `make test-long`.
"""

from dataclasses import replace
from itertools import islice, product

import pytest
import reference
import torch

from pcworker.data.randomness import initial_parameters
from pcworker.equations.schedule import Step
from pcworker.kernels.backprop import Backprop
from pcworker.kernels.stack import Stack
from pcworker.training.engine import Engine
from pcworker.trials.configuration import configuration
from pcworker.trials.trial import Trial

NETWORKS = {1: "784-32-10", 2: "784-32-32-10", 3: "784-32-32-32-10"}
SEED = 1482555873
UPDATES = [150, pytest.param(3000, marks=pytest.mark.long)]


def trial(**values: object) -> Trial:
    return Trial(configuration(**({"rule": "Z-IL", "schedule": "literal"} | values)), SEED)


def train(
    engine: Engine, trials: list[Trial], updates: int, stack: Stack | None = None
) -> tuple[Stack, Backprop, list[list[torch.Tensor]]]:
    """Trains a stack, the engine's BP twin and the oracle on the same batches."""
    config = trials[0].configuration
    stack = stack or Stack(trials, engine.data.device)
    twin = Backprop(trials[0].twin, engine.data.device)
    model = reference.network(initial_parameters(config, SEED), config.activation)
    optimiser = torch.optim.SGD(model.parameters(), lr=config.alpha)
    epochs = range(1, 3 + updates * config.batch_size // engine.data.samples)
    batches = (b for e in epochs for b in engine.data.batches(config, SEED, e, noisy=False))
    for batch in islice(batches, updates):
        stack.update({SEED: batch}, config.alpha)
        twin.update(batch, config.alpha)
        reference.train_step(model, optimiser, batch.inputs, batch.targets)
    return stack, twin, reference.parameters(model)


@pytest.mark.parametrize(
    ("hidden", "dtype", "activation", "bias"),
    list(product((1, 2, 3), ("float32", "float64"), ("sigmoid", "tanh", "relu"), (False, True))),
)
@pytest.mark.parametrize("updates", UPDATES)
def test_z_il_and_the_bp_twin_equal_autograd_on_mnist(
    engine: Engine, updates: int, hidden: int, dtype: str, activation: str, bias: bool
) -> None:
    settings = {
        "network": NETWORKS[hidden],
        "dtype": dtype,
        "activation": activation,
        "bias": bias,
        "init": "linear",  # draws biases that are not zero
    }
    z_il = trial(**settings)
    stack, twin, expected = train(engine, [z_il], updates)
    assert not reference.equal(expected, initial_parameters(z_il.configuration, SEED))
    assert reference.equal(stack.parameters(0), expected)
    assert reference.equal(twin.parameters(), expected)


@pytest.mark.long
def test_z_il_and_the_bp_twin_equal_autograd_after_10000_updates(engine: Engine) -> None:
    """The design's own trial: more than three epochs of the deepest network in float32."""
    stack, twin, expected = train(engine, [trial(network=NETWORKS[3])], 10_000)
    assert reference.equal(stack.parameters(0), expected)
    assert reference.equal(twin.parameters(), expected)


@pytest.mark.parametrize("hidden", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("updates", UPDATES)
def test_literal_fa_z_il_with_sigmoid_equals_autograd_on_mnist(
    engine: Engine, updates: int, hidden: int, dtype: str
) -> None:
    fa_z_il = trial(rule="Fa-Z-IL", network=NETWORKS[hidden], dtype=dtype)
    stack, _, expected = train(engine, [fa_z_il], updates)
    assert reference.equal(stack.parameters(0), expected)


def test_the_exact_cell_is_exact_among_all_other_cells_of_one_stack(engine: Engine) -> None:
    others = [trial(rule="IL", t=t, gamma=g) for t in (0, 1, 2, 3, 16) for g in (0.1, 1, 5)]
    others += [trial(gamma=g) for g in (0.5, 1.001, 10)] + [trial(sigma=s) for s in (0.01, 1)]
    z_il = trial()
    stack = Stack([*others[:9], z_il, *others[9:]], engine.data.device)
    model = reference.network(initial_parameters(z_il.configuration, SEED), "sigmoid")
    optimiser = torch.optim.SGD(model.parameters(), lr=0.001)
    batches = islice(engine.data.batches(z_il.configuration, SEED, 1, noisy=True), 300)
    for batch in batches:
        stack.update({SEED: batch}, 0.001)
        reference.train_step(model, optimiser, batch.inputs, batch.targets)
    expected = reference.parameters(model)
    exact = [
        t for k, t in enumerate(stack.trials) if reference.equal(stack.parameters(k), expected)
    ]
    assert exact == [z_il]


def broken(stack: Stack, how: str) -> Stack:
    """Breaks a condition of exactness in a stack's schedule; the operations stay the same."""
    steps = list(stack._steps)
    if how == "one step late":
        late = [(), *(step.learn for step in steps)]
        steps = [replace(s, learn=late[t]) for t, s in enumerate([*steps, _after(steps[-1])])]
    if how == "new weights in Eq. 7":
        steps = [
            part
            for step in steps
            for part in (replace(step, move=()), Step(move=step.move))  # learns, then moves
        ]
    stack._steps = tuple(steps)
    return stack


def _after(last: Step) -> Step:
    """One more literal step."""
    return replace(last, activate=last.move, predict=last.compare, learn=())


@pytest.mark.parametrize("hidden", [2, 3])
@pytest.mark.parametrize("how", ["one step late", "new weights in Eq. 7", "gamma 1.001"])
def test_each_broken_condition_is_noticed_at_once(engine: Engine, hidden: int, how: str) -> None:
    """The equality above would show nothing if these were equal too."""
    gamma = 1.001 if how.startswith("gamma") else 1.0
    trials = [trial(network=NETWORKS[hidden], gamma=gamma)]
    stack, twin, expected = train(engine, trials, 3, broken(Stack(trials, engine.data.device), how))
    assert reference.equal(twin.parameters(), expected)
    assert not reference.equal(stack.parameters(0), expected)


def test_the_textbook_arithmetic_drifts_and_the_displacement_does_not(engine: Engine) -> None:
    """Both trials run the literal schedule, and differ only in the arithmetic that holds x."""
    drift = {}
    for arithmetic in ("displacement", "textbook"):
        stack, _, expected = train(engine, [trial(arithmetic=arithmetic)], 300)
        pairs = zip(stack.parameters(0), expected, strict=True)
        drift[arithmetic] = max(float((a[0] - b[0]).abs().max()) for a, b in pairs)
    assert drift["displacement"] == 0.0
    assert 1e-9 < drift["textbook"] < 1e-4


def test_reduction_mean_and_soft_targets_are_exact_too(engine: Engine) -> None:
    """The oracle is autograd, with the loss summed and the rate divided by the batch's size."""
    config = trial(reduction="mean", targets="soft", batch_size=50).configuration
    stack = Stack([Trial(config, SEED)], engine.data.device)
    model = reference.network(initial_parameters(config, SEED), "sigmoid")
    optimiser = torch.optim.SGD(model.parameters(), lr=config.alpha / 50)
    for batch in islice(engine.data.batches(config, SEED, 1, noisy=False), 200):
        assert {round(v, 2) for v in batch.targets.unique().tolist()} == {0.03, 0.97}
        stack.update({SEED: batch}, config.alpha / 50)
        reference.train_step(model, optimiser, batch.inputs, batch.targets)
    assert reference.equal(stack.parameters(0), reference.parameters(model))
