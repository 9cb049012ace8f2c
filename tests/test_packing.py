"""A trial's results do not depend on its neighbours: the same bits, alone or in any stack.

Compared are all weights (torch.equal on the engine's final arrays) and all metrics.
"""

import random
from dataclasses import asdict

import numpy as np
import pytest

from cluster.plan import make_plan
from jobs.mnist_ablation import mnist_ablation
from pcworker.config import Trial, configuration
from pcworker.engine import Engine
from pcworker.results import ShardResult, TrialResult

SEEDS = (1482555873, 698841058)
PAPER = {
    "t": (None, 0, 1, 2, 3, 4, 16, 64),
    "gamma": (0.01, 0.1, 0.5, 1.0, 5.0, 10.0),
    "sigma": (0.0, 0.0001, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0),
    "rules": ("BP", "IL", "Z-IL", "Fa-Z-IL"),
}


def assert_same(a: TrialResult, b: TrialResult) -> None:
    """Every bit of every weight and of every metric."""
    assert a.trial == b.trial
    assert (a.nonfinite_epoch, a.updates) == (b.nonfinite_epoch, b.updates)
    assert [asdict(m) for m in a.epochs] == [asdict(m) for m in b.epochs], a.trial
    assert len(a.parameters) == len(b.parameters)
    for layer, other in zip(a.parameters, b.parameters, strict=True):
        for x, y in zip(layer, other, strict=True):
            assert np.array_equal(x, y), a.trial
            assert x.tobytes() == y.tobytes(), a.trial


def by_trial(result: ShardResult) -> dict[Trial, TrialResult]:
    return {trial.trial: trial for trial in result.trials}


def grid(network: str, seeds: tuple[int, ...], **common: object) -> list[Trial]:
    """All trials of Figure 3 for one network."""
    return list(mnist_ablation(networks=[network], seeds=seeds, **PAPER, **common).trials)


@pytest.mark.parametrize("network", ["784-32-10", "784-32-32-10", "784-32-32-32-10"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_alone_in_the_whole_grid_and_in_another_order_the_bits_are_the_same(
    small_engine: Engine, network: str, dtype: str
) -> None:
    trials = grid(network, SEEDS[:1], dtype=dtype, epochs=2)
    assert len(trials) == 52
    together = small_engine.run(trials)
    assert together.packing == "stacked"
    shuffled = random.Random(1).sample(trials, len(trials))
    again = by_trial(small_engine.run(shuffled))
    pairs = by_trial(small_engine.run(trials[20:22])) | by_trial(small_engine.run(trials[30:32]))
    for result in together.trials:
        assert_same(result, again[result.trial])
        if result.trial in pairs:
            assert_same(result, pairs[result.trial])
    for result in together.trials[::3]:
        alone = small_engine.run([result.trial])
        assert_same(result, alone.trials[0])


def test_stacks_of_several_seeds_and_of_limited_width_change_nothing(small_engine: Engine) -> None:
    trials = grid("784-32-32-10", SEEDS)
    mixed = by_trial(small_engine.run(trials))
    narrow = by_trial(small_engine.run(trials, max_width=7))
    for seed in SEEDS:
        own = small_engine.run([trial for trial in trials if trial.seed == seed])
        for result in own.trials:
            assert_same(result, mixed[result.trial])
            assert_same(result, narrow[result.trial])


def test_the_plans_shards_give_the_bits_of_one_big_stack(small_engine: Engine) -> None:
    sweep = mnist_ablation(networks=["784-32-10"], seeds=SEEDS, epochs=1, **PAPER)
    plan = make_plan(sweep, "any")
    assert len(plan.shards) > 1
    whole = by_trial(small_engine.run(sweep.trials))
    for shard in plan.shards:
        for result in small_engine.run(shard.trials).trials:
            assert_same(result, whole[result.trial])


@pytest.mark.parametrize("widths", ["30", "33-17", "17-30-33"])
@pytest.mark.parametrize("batch_size", [20, 7, 1])
@pytest.mark.parametrize(
    ("dtype", "activation"), [("float32", "sigmoid"), ("float64", "tanh"), ("float32", "relu")]
)
def test_odd_shapes_are_packing_invariant_as_the_probe_decides_and_z_il_stays_exact(
    small_engine: Engine, widths: str, batch_size: int, dtype: str, activation: str
) -> None:
    """Whatever the probe finds on this machine, the results are those of the trials alone."""
    common = {
        "network": f"784-{widths}-10",
        "dtype": dtype,
        "activation": activation,
        "batch_size": batch_size,
    }
    cells = [{"rule": "Z-IL"}, {"rule": "Z-IL", "sigma": 0.1}, {"rule": "IL", "t": 3, "gamma": 0.5}]
    trials = [Trial(configuration(**cell, **common), SEEDS[0]) for cell in cells]
    together = small_engine.run(trials)
    assert together.packing in ("stacked", "alone")
    for result in together.trials:
        assert_same(result, small_engine.run([result.trial]).trials[0])
    exact = together.trials[0]
    assert exact.epochs[-1].weight_maxabs_to_twin == 0.0
    assert exact.epochs[-1].test_error == exact.epochs[-1].twin_test_error


def test_a_stack_that_would_change_bits_is_run_one_by_one(small_engine: Engine) -> None:
    """Batch x width that is no multiple of the vector unit's 16: the end of a sigmoid's buffer is
    computed by other code, on every machine tried. The probe must notice that."""
    config = {"network": "784-33-30-10", "batch_size": 7}
    trials = [
        Trial(configuration(rule="IL", t=t, gamma=g, **config), SEEDS[0])
        for t in (2, 3)
        for g in (0.1, 0.5, 1.0)
    ]
    assert small_engine.run(trials).packing == "alone"
