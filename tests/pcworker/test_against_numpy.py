"""Every cell that is not backpropagation agrees with a second implementation of the paper.

The oracle is `oracle`: a slow, per-sample NumPy implementation of the paper's equations in the
textbook arithmetic, which imports nothing of ours. Weights, batches and noise go to both as arrays.
In float64 the weights agree within 1e-8 of the layer's largest weight: after 1 and 3 updates in
`make test`, after 1 and 20 in `make test-long`. At gamma = 10 and t = 4 an update multiplies a
rounding by up to 9^4, so that on some processors 20 of them differ by 1e-9.

At gamma >= 5 and t >= 16 inference itself multiplies any rounding by 4^16 to 9^64. No comparison is
meaningful there, and `test_training` says what becomes of those cells.
"""

from itertools import islice

import numpy as np
import oracle
import pytest
import torch

from pcworker.data.randomness import initial_parameters
from pcworker.kernels.stack import Stack
from pcworker.training.engine import Engine
from pcworker.trials.configuration import configuration
from pcworker.trials.trial import Trial

NETWORKS = ["784-32-10", "784-32-32-10", "784-32-32-32-10"]
SEED = 698841058
GAMMAS = (0.01, 0.1, 0.5, 1.0, 5.0, 10.0)
SIGMAS = (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
UPDATES = [[1, 3], pytest.param([1, 20], marks=pytest.mark.long)]

SHORT = [{"rule": "IL", "t": t, "gamma": g} for t in (0, 1, 2, 3, 4) for g in GAMMAS]
LONG = [{"rule": "IL", "t": t, "gamma": g} for t in (16, 64) for g in GAMMAS if g < 5]
Z_IL = [{"rule": "Z-IL", "gamma": g} for g in GAMMAS]
C1 = [{"rule": "Z-IL", "sigma": s} for s in SIGMAS]
FA = [{"rule": "Fa-Z-IL"}, {"rule": "Fa-Z-IL", "t_d": 1, "horizon": 6, "gamma": 0.5}]


def compare(engine: Engine, cells: list[dict], updates: list[int], **common: object) -> None:
    """Trains the cells as one stack of ours and one by one by the oracle, and compares the weights
    after these `updates`."""
    trials = [Trial(configuration(dtype="float64", **cell, **common), SEED) for cell in cells]
    trials = list(dict.fromkeys(trials))
    stack = Stack(trials, engine.data.device)
    config = trials[0].configuration
    first = initial_parameters(config, SEED)
    theta = {t: [layer[0].numpy() for layer in first] for t in stack.trials}
    bias = {t: [la[1].numpy() for la in first] if config.bias else None for t in stack.trials}
    batches = islice(engine.data.batches(config, SEED, 1, noisy=True), max(updates))
    for update, batch in enumerate(batches, 1):
        stack.update({SEED: batch}, config.alpha)
        hidden = range(config.l_max - 1, 0, -1)
        noise = {l: normal.numpy() for l, normal in zip(hidden, batch.noise, strict=True)}
        for place, trial in enumerate(stack.trials):
            c = trial.configuration
            theta[trial], bias[trial] = oracle.pc_update(
                theta[trial], bias[trial], batch.inputs.numpy(), batch.targets.numpy(),
                f=c.activation, alpha=c.alpha, rule=c.rule, gamma=c.gamma or 1.0, t=c.t,
                t_d=c.t_d, horizon=c.horizon, sigma=c.sigma, noise=noise,
            )  # fmt: skip
            if update in updates:
                _assert_close(stack.parameters(place), theta[trial], bias[trial], trial)


def _assert_close(ours: list, theta: list, bias: list | None, trial: Trial) -> None:
    for l, layer in enumerate(ours):
        expected = [theta[l], bias[l]] if bias else [theta[l]]
        scale = max(np.abs(e).max() for e in expected)
        for mine, wanted in zip(layer, expected, strict=True):
            worst = np.abs(mine.numpy() - wanted).max() / scale
            assert worst < 1e-8, f"theta^{l + 1} of {trial.configuration}: {worst}"


@pytest.mark.parametrize("updates", UPDATES, ids=str)
@pytest.mark.parametrize("network", NETWORKS)
def test_cells_of_few_steps_agree(engine: Engine, network: str, updates: list[int]) -> None:
    compare(engine, SHORT + Z_IL + FA, updates, network=network)


@pytest.mark.parametrize("updates", UPDATES, ids=str)
@pytest.mark.parametrize("network", NETWORKS)
def test_noisy_cells_agree(engine: Engine, network: str, updates: list[int]) -> None:
    compare(engine, C1, updates, network=network)


@pytest.mark.parametrize("updates", UPDATES, ids=str)
@pytest.mark.parametrize("network", NETWORKS)
def test_cells_of_many_steps_agree(engine: Engine, network: str, updates: list[int]) -> None:
    compare(engine, LONG, updates, network=network)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu"])
@pytest.mark.parametrize("schedule", ["layerwise", "literal"])
def test_activations_biases_noise_and_odd_widths_agree(
    engine: Engine, activation: str, schedule: str
) -> None:
    rules = [{"rule": "IL", "t": t} for t in (0, 1, 3)] + [{"rule": "Z-IL"}]
    if activation != "relu":  # with relu the textbook's eps is 0 or 1e-17 by the order of a sum
        rules.append({"rule": "Fa-Z-IL", "t_d": 2})
    cells = [
        {"gamma": gamma, "sigma": sigma, **rule}
        for rule in rules
        for gamma in (0.3, 1.0)
        for sigma in (0.0, 0.5)
        # layerwise Fa-Z-IL looks at phi at t = l only; with noise the paper's fires before
        if not (rule["rule"] == "Fa-Z-IL" and schedule == "layerwise" and sigma > 0)
    ]
    compare(
        engine,
        cells,
        [1, 10],
        network="784-30-17-10",
        activation=activation,
        schedule=schedule,
        bias=True,
        init="linear",
        batch_size=7,
    )


def test_the_oracle_itself_is_backpropagation_where_it_should_be() -> None:
    """The oracle of the oracle is torch.autograd, on random numbers."""
    generator = torch.Generator().manual_seed(5)
    theta = [torch.randn(n, m, generator=generator).double() for n, m in ((3, 4), (4, 5))]
    x = torch.rand(6, 5, generator=generator).double()
    y = torch.rand(6, 3, generator=generator).double()
    leaves = [t.clone().requires_grad_() for t in theta]
    loss = 0.5 * ((y - torch.sigmoid(x @ leaves[1].T) @ leaves[0].T) ** 2).sum()
    loss.backward()
    moved, _ = oracle.pc_update(
        [t.numpy() for t in theta], None, x.numpy(), y.numpy(),
        f="sigmoid", alpha=0.1, rule="Z-IL", gamma=1.0,
    )  # fmt: skip
    for mine, leaf in zip(moved, leaves, strict=True):
        np.testing.assert_allclose(mine, (leaf - 0.1 * leaf.grad).detach().numpy(), rtol=1e-12)
