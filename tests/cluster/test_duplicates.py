"""Tests of trials that several sweeps hold, by what `jobs.collect` says of them and its exit code.

Equal results are written a second time by another host. Then one thing in them is changed.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from builders import (
    ablation,
    collected,
    commit,
    commit_all,
    planned,
    with_z_il_changed,
)
from command_lines import Ended, called

from cluster.sweeps.plan import Plan, Shard
from pcworker.store.local import LocalStore
from pcworker.training.results import EpochMetrics, TrialResult

Change = Callable[[TrialResult], TrialResult]


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def collect(store: LocalStore, sweeps: str) -> Ended:
    return called("--store", store.url, "--sweep", sweeps, module="jobs.collect")


def commit_again(store: LocalStore, plan: Plan, change: Change) -> None:
    """Commits what `commit_all` would, on another host and device, but for one changed trial."""
    for shard in plan.shards:
        changed = with_z_il_changed(shard, change)
        told = replace(changed, wall_seconds=9.0, packing="irreproducible")
        commit(store, plan, shard, attempt="again", result=told, hostname="there", device="a gpu")


def same(result: TrialResult) -> TrialResult:
    return result


def another_weight(result: TrialResult) -> TrialResult:
    """The smallest number for a zero: no distance tells, and no table but `weights`."""
    [[first], *rest] = result.parameters
    changed = first.copy()
    changed[0, 0] = 1e-45
    return replace(result, parameters=[[changed], *rest])


def another_epoch(result: TrialResult) -> TrialResult:
    first, *rest = result.epochs
    assert isinstance(first, EpochMetrics) and first.train_energy is not None
    return replace(result, epochs=[replace(first, train_energy=first.train_energy * 1.001), *rest])


def not_finite(result: TrialResult) -> TrialResult:
    nothing = [EpochMetrics()] * len(result.epochs)
    return TrialResult(result.trial, nonfinite_epoch=1, updates=1, epochs=nothing)


def test_equal_results_of_two_sweeps_are_compared_and_count_once(store: LocalStore) -> None:
    commit_all(store, planned(store, ablation(), "A"))
    commit_again(store, planned(store, ablation(seeds=[1, 2]), "B"), same)
    done = collect(store, "A,B")
    assert done.code == 0
    assert "; 8 trials of several sweeps compared, all bit-identical." in done.stdout
    audit = collected(store, "A", "B").audit
    assert (audit.duplicates, audit.differing) == (8, ())


@pytest.mark.parametrize(
    ("change", "tables"),
    [
        (another_weight, "weights"),
        (another_epoch, "epochs"),
        (not_finite, "trials, epochs, weights"),
    ],
)
def test_different_results_of_two_sweeps_are_named_and_the_exit_code_tells(
    store: LocalStore, change: Change, tables: str
) -> None:
    commit_all(store, planned(store, ablation(), "A"))
    commit_again(store, planned(store, ablation(), "B"), change)
    done = collect(store, "B,A")
    assert (done.code, done.stderr) == (1, "")
    assert "; 8 trials of several sweeps compared, 1 differ." in done.stdout
    [line] = [each for each in done.stdout.splitlines() if each.startswith("trial ")]
    for part in ("sweep A, shard", "(here, cpu", "sweep B, shard", "(there, a gpu)"):
        assert part in line
    assert line.endswith(f" in {tables}")
    assert "exit code is 1" in done.stdout
    trials = pq.read_table(store.root / "sweeps/A+B/tables/trials.parquet").to_pylist()
    assert {row["sweep"] for row in trials} == {"A"}


def test_each_of_three_sweeps_is_compared_with_the_first(store: LocalStore) -> None:
    for name, change in (("A", same), ("B", same), ("C", another_epoch)):
        commit_again(store, planned(store, ablation(), name), change)
    audit = collected(store, "A", "B", "C").audit
    assert audit.duplicates == 16
    [line] = audit.differing_duplicates
    assert "sweep C" in line and "sweep A" in line


def test_a_sweep_alone_has_no_duplicates(store: LocalStore) -> None:
    commit_all(store, planned(store, ablation(), "A"))
    done = collect(store, "A")
    assert (done.code, "several sweeps" in done.stdout) == (0, False)


def test_what_is_damaged_is_not_compared(store: LocalStore) -> None:
    for name in ("A", "B"):
        plan = planned(store, ablation(), name)
        commit_all(store, plan)
    store.put(plan.keys.commit(plan.shards[0].shard_id), b"{")
    made = collected(store, "A", "B")
    assert made.audit.duplicates == 8 - len(plan.shards[0].trials)


def test_an_attempt_or_a_copy_that_differs_is_told_by_the_exit_code_too(store: LocalStore) -> None:
    plan = planned(store, ablation(), "A")
    commit_all(store, plan)
    assert collect(store, "A").code == 0
    late: Shard = plan.shards[0]
    assert commit(store, plan, late, lambda trial: 0.5, attempt="late") == "differs"
    done = collect(store, "A")
    assert done.code == 1
    assert "exit code is 1" in done.stdout


def test_a_finished_sweep_tells_it_when_it_is_submitted_again(store: LocalStore) -> None:
    plan = planned(store, ablation(), "A")
    commit_all(store, plan)
    axes = ("--networks", "784-2-10", "--seeds", "1", "--t", "l,0,16", "--gamma", "1,10")
    command = ("--store", store.url, "--sweep", "A", *axes, "--sigma", "0,0.1")
    assert called(*command).code == 0
    commit(store, plan, plan.shards[0], lambda trial: 0.5, attempt="late")
    done = called(*command)
    assert (done.code, done.stderr) == (1, "")
    assert "1 differ" in done.stdout
