"""Tests of the estimated time of a sweep. Oracle: sums by hand. One test measures this machine."""

import json
import sys
from dataclasses import astuple, replace
from pathlib import Path

import pytest

from cluster.sweeps.estimate import START_S, estimate, makespan
from cluster.sweeps.plan import make_plan
from jobs.mnist_ablation.cost import TABLE, shard_seconds, trial_cost
from jobs.mnist_ablation.experiment import ABLATION
from jobs.mnist_ablation.speed.calibration import kept_speeds, mean, measured_speeds, speeds_from
from jobs.mnist_ablation.speed.look import scaled, scaled_speeds
from jobs.mnist_ablation.sweep import mnist_ablation
from pcworker.trials.configuration import configuration
from pcworker.trials.trial import Trial


def trial(**values: object) -> Trial:
    return Trial(configuration(**values), 1)


def test_workers_take_the_next_shard_when_they_are_free() -> None:
    assert makespan([5, 4, 3, 2], 1) == 14
    assert makespan([5, 4, 3, 2], 2) == 7  # one works 5 + 2, the other 4 + 3
    assert makespan([9, 1, 1], 3) == 9
    assert makespan([], 2) == 0


def test_a_trial_costs_its_weights_and_its_steps() -> None:
    """Oracle: by hand. The network 784-32-10 has 25,408 weights and 32 hidden units."""
    per_weight, per_unit = TABLE.compiled.per_weight, TABLE.compiled.per_unit
    taken = trial_cost(configuration(network="784-32-10", rule="IL", t=16, gamma=0.1))
    assert taken == pytest.approx(25408 * per_weight + 16 * 32 * per_unit)
    values = {"network": "784-32-10", "rule": "IL", "t": 16, "gamma": 0.1}
    by_torch = configuration(**values, dtype="float64", sums="library")
    per_weight, per_unit = TABLE.torch.per_weight, TABLE.torch.per_unit
    assert trial_cost(by_torch) == pytest.approx(25408 * per_weight + 16 * 32 * per_unit)
    assert trial_cost(configuration(network="784-32-10", rule="BP")) == TABLE.backprop


def test_twice_as_slow_a_machine_takes_twice_as_long() -> None:
    trials = [trial(rule="Z-IL"), trial(rule="IL", t=4, gamma=0.5), trial(rule="BP")]
    kernel = replace(TABLE.compiled, **{k: 2 * v for k, v in vars(TABLE.compiled).items()})
    plain = ("backprop", "batch", "noise", "epoch", "shard")
    rest = {name: 2 * getattr(TABLE, name) for name in plain}
    slow = replace(TABLE, compiled=kernel, **rest)
    assert shard_seconds(trials, slow) == pytest.approx(2 * shard_seconds(trials))


def test_an_estimate_is_of_the_shards_that_are_left() -> None:
    sweep = mnist_ablation(
        networks=["784-32-10"], seeds=[1, 2, 3], rules=("BP", "IL", "Z-IL"), t=(None, 1, 64),
        gamma=(0.1, 1.0), sigma=(0.0, 1.0), epochs=1,
    )  # fmt: skip
    plan = make_plan(ABLATION, sweep, "any")
    assert len(plan.shards) >= 3
    made = estimate(plan, plan.shards[1:], workers=8)
    assert made.workers == len(plan.shards) - 1 and set(made.seconds) == {
        s.shard_id for s in plan.shards[1:]
    }
    longest = max(shard_seconds(s.trials) for s in plan.shards[1:])
    assert made.wall_seconds == START_S + longest


def test_a_short_look_scales_the_table() -> None:
    """Oracle: by hand. Arithmetic takes twice as long here, and calls four times."""
    slower = scaled(2.0, 4.0)
    assert slower.compiled.per_unit == 2 * TABLE.compiled.per_unit
    assert (slower.batch, slower.epoch) == (2 * TABLE.batch, 2 * TABLE.epoch)
    assert (slower.backprop, slower.shard) == (4 * TABLE.backprop, 4 * TABLE.shard)
    looked = scaled_speeds(1)
    assert looked is not None and looked.compiled.per_weight > 0 and looked.backprop > 0


def test_processes_values_are_averaged_entry_by_entry() -> None:
    one, other = {"a": 1.0, "b": {"c": 2.0}}, {"a": 3.0, "b": {"c": 6.0}}
    assert mean([one, other]) == {"a": 2.0, "b": {"c": 4.0}}
    with pytest.raises(KeyError):
        speeds_from({"backprop": 1.0})


HASTY = f"""#!{sys.executable}
import json
from jobs.mnist_ablation.speed import speeds
speeds.SECONDS = 0.01
print(json.dumps(speeds.measure()))
"""


def test_speeds_are_measured_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that measures is a real one, but it repeats its work for a shorter time."""
    hasty = tmp_path / "python"
    hasty.write_text(HASTY)
    hasty.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(hasty))
    monkeypatch.setenv("ZILSWEEP_CACHE", str(tmp_path))
    speeds = measured_speeds(1)
    assert speeds is not None
    assert speeds.compiled.per_weight > 0 and speeds.torch.per_weight > 0
    assert min(speeds.backprop, speeds.batch, speeds.epoch) > 0
    (kept,) = tmp_path.glob("speeds-*.json")
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"backprop": 123.0}))
    again = kept_speeds(1)
    assert again is not None and astuple(again) == astuple(replace(speeds, backprop=123.0))
