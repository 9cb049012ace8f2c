"""The paper's statements about the rules, each as a number that can be wrong."""

from itertools import islice

import pytest
import reference
import torch

from pcworker.data.randomness import initial_parameters
from pcworker.kernels.stack import Stack
from pcworker.training.engine import Engine
from pcworker.trials.configuration import configuration
from pcworker.trials.trial import Trial

SEED = 1482555873


def trained(engine: Engine, updates: int, **values: object) -> tuple[Stack, list]:
    """Returns the parameters of one trial after some updates, and those of the oracle: autograd and
    SGD on the same batches."""
    trial = Trial(configuration(**values), SEED)
    config = trial.configuration
    stack = Stack([trial], engine.data.device)
    model = reference.network(initial_parameters(config, SEED), config.activation)
    optimiser = torch.optim.SGD(model.parameters(), lr=config.alpha)
    for batch in islice(engine.data.batches(config, SEED, 1, config.noisy), updates):
        stack.update({SEED: batch}, config.alpha)
        reference.train_step(model, optimiser, batch.inputs, batch.targets)
    return stack.parameters(0), reference.parameters(model)


@pytest.mark.parametrize("gamma", [0.1, 0.5, 5.0])
def test_gamma_is_a_learning_rate_that_decays_along_the_layers(
    engine: Engine, gamma: float
) -> None:
    """The oracle is torch.optim.SGD with the rate alpha * gamma^l for theta^{l+1} (C3)."""
    config = configuration(rule="Z-IL", gamma=gamma, dtype="float64", network="784-32-32-32-10")
    stack = Stack([Trial(config, SEED)], engine.data.device)
    model = reference.network(initial_parameters(config, SEED), "sigmoid")
    layers = [m for m in reversed(model) if isinstance(m, torch.nn.Linear)]
    groups = [
        {"params": m.parameters(), "lr": config.alpha * gamma**l} for l, m in enumerate(layers)
    ]
    optimiser = torch.optim.SGD(groups)
    for batch in islice(engine.data.batches(config, SEED, 1, noisy=False), 200):
        stack.update({SEED: batch}, config.alpha)
        reference.train_step(model, optimiser, batch.inputs, batch.targets)
    for ours, theirs in zip(stack.parameters(0), reference.parameters(model), strict=True):
        torch.testing.assert_close(ours[0], theirs[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("schedule", ["layerwise", "literal"])
def test_il_at_t_0_moves_the_output_weights_only(engine: Engine, schedule: str) -> None:
    values = {"rule": "IL", "t": 0, "network": "784-32-32-32-10", "schedule": schedule}
    ours, _ = trained(engine, 50, **values)
    first = initial_parameters(configuration(**values), SEED)
    moved = [not torch.equal(a[0], b[0]) for a, b in zip(ours, first, strict=True)]
    assert moved == [True, False, False, False]


@pytest.mark.parametrize("hidden", ["32", "32-32", "32-32-32"])
@pytest.mark.parametrize(("t_d", "horizon"), [(1, None), (1, 16), (4, 16)])
def test_literal_fa_z_il_is_backpropagation_with_sigmoid(
    engine: Engine, hidden: str, t_d: int, horizon: int | None
) -> None:
    """`test_exactly_backprop` shows the same of t_d = 4 without a horizon."""
    ours, backprop = trained(
        engine, 100, rule="Fa-Z-IL", network=f"784-{hidden}-10", schedule="literal",
        horizon=horizon, t_d=t_d,
    )  # fmt: skip
    assert reference.equal(ours, backprop)


def test_literal_fa_z_il_is_not_backpropagation_with_relu(engine: Engine) -> None:
    """This pins a finding: a silent neuron's error is exactly 0 at t = l and fires later, when its
    prediction moves. So "the failure does no harm" (Sec. 4) fails where f' can be exactly 0."""
    ours, backprop = trained(
        engine, 100, rule="Fa-Z-IL", network="784-32-32-10", schedule="literal", activation="relu"
    )
    apart = max(float((a[0] - b[0]).abs().max()) for a, b in zip(ours, backprop, strict=True))
    assert 1e-4 < apart < 1

    late, misses = _late_spikes(engine, "relu")
    assert late > 0 and misses > 0
    assert _late_spikes(engine, "sigmoid") == (0, 0)


def _late_spikes(engine: Engine, activation: str) -> tuple[int, int]:
    """Counts for one batch the neurons (by sample) whose phi is 1 after t = l, and those that are
    silent at t = l."""
    values = {"network": "784-32-32-10", "schedule": "literal", "activation": activation}
    trial = Trial(configuration(rule="Fa-Z-IL", horizon=6, **values), SEED)
    stack = Stack([trial], engine.data.device)
    batch = next(engine.data.batches(trial.configuration, SEED, 1, noisy=False))
    inference = stack._for_size(len(batch.inputs))
    inference.state.inputs[0].copy_(batch.inputs)
    inference.start(batch.targets.unsqueeze(0), None)
    late = misses = 0
    for t, step in enumerate(stack._steps):
        with torch.no_grad():
            inference.step(step, 0.001)
        for l in range(3):
            fired = int(inference.state.phi[l].sum())
            late += fired if t > l else 0
            misses += inference.state.phi[l].numel() - fired if t == l else 0
    return late, misses


def test_noise_of_a_seed_is_the_same_for_every_sigma(engine: Engine) -> None:
    config = configuration(rule="Z-IL", sigma=0.1)
    other = configuration(rule="Z-IL", sigma=10.0)
    a = next(engine.data.batches(config, SEED, 2, noisy=True))
    b = next(engine.data.batches(other, SEED, 2, noisy=True))
    c = next(engine.data.batches(config, SEED, 3, noisy=True))
    assert all(torch.equal(x, y) for x, y in zip(a.noise, b.noise, strict=True))
    assert not torch.equal(a.noise[0], c.noise[0])


def test_float32_and_float64_trials_are_paired(engine: Engine) -> None:
    single = initial_parameters(configuration(rule="BP", dtype="float32"), SEED)
    double = initial_parameters(configuration(rule="BP", dtype="float64"), SEED)
    assert all(torch.equal(a[0], b[0].float()) for a, b in zip(single, double, strict=True))
