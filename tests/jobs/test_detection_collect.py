"""Tests of the way from committed counts to the table and the terminal. The rates are made up."""

import io
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from builders import ablation, planned, record_failure, where
from command_lines import called, refusal
from pages import page_of_collected, require_same_answers
from rich.console import Console

from cluster.report.publish import print_next, publish, require_complete
from cluster.results.collect import Collected, collect
from cluster.sweeps.plan import Plan
from jobs.detection_rate.configuration import T_D
from jobs.detection_rate.counts import Counts
from jobs.detection_rate.experiment import DETECTION
from jobs.detection_rate.results import Detected, DetectionResult
from jobs.detection_rate.shown.report import percent
from jobs.detection_rate.shown.views import (
    PAPER,
    by_factor,
    by_network,
    rates,
    setting,
    without_failed,
)
from jobs.detection_rate.sweep import detection_rate
from jobs.detection_rate.tables import DETECTION_TABLES
from pcworker.errors import IncompleteError
from pcworker.store.commit import commit_shard
from pcworker.store.keys import SweepKeys
from pcworker.store.local import LocalStore
from pcworker.store.store import Store
from pcworker.trials.trial import Trial

COUNTS = Counts(
    pairs=200, spike_at_l=160, only_at_l=150, missed_zero=40, missed_nonzero=0, early=0, late=20,
    missed_late=10, spikes=320,
)  # fmt: skip
"""The counts of relu, which misses some errors. The others have those of `WELL`."""
WELL = Counts(200, 200, 200, 0, 0, 0, 0, 0, 200)


def detection_plan(store: Store) -> Plan[Any]:
    declared = detection_rate(
        networks=["784-16-16-10"], seeds=[1], activations=["sigmoid", "relu"], dtypes=["float32"],
        arithmetics=["textbook"], gammas=[1.0, 0.5], weights=["learning"], stages=[0, 10],
        horizons=[None, 8], tolerances=[0.0, 1e-4],
    )  # fmt: skip
    return planned(store, declared, "a", DETECTION)


def result(trial: Trial[Any]) -> DetectionResult:
    config = trial.configuration
    counts = COUNTS if config.activation == "relu" else WELL
    axes = product(config.stage_list, (0, 1, 2), T_D, config.horizon_list, config.tolerance_list)
    detected = [
        # Before any training one pair in 200 fails.
        Detected(stage, l, 16, t_d, horizon, tolerance,
                 replace(counts, only_at_l=199) if stage == 0 else counts)
        for stage, l, t_d, horizon, tolerance in axes
    ]  # fmt: skip
    return DetectionResult(trial, detected, True, {trial.twin.trial_id: ["digest"]}, 1.0, 10)


def commit(store: Store, plan: Plan[Any], places: slice = slice(None)) -> Collected:
    for shard in plan.shards[places]:
        made = result(shard.trials[0])
        keys = SweepKeys(plan.name)
        commit_shard(store, keys, shard.shard_id, "first", made, DETECTION_TABLES, where(plan.name))
    return collect(store, [plan])


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def printed(store: Store, made: Collected) -> str:
    out = io.StringIO()
    console = Console(file=out, width=1000, markup=False, highlight=False)
    print_next(store, publish(store, made.plans, console, partial=True), console)
    return out.getvalue()


def line(text: str, start: str) -> list[str]:
    [found] = [each for each in text.splitlines() if each.strip().startswith(start)]
    return found.replace(start, "", 1).split()


def test_rates_are_sums_divided_by_sums(store: LocalStore) -> None:
    made = commit(store, detection_plan(store))
    require_complete(made)
    relu = rates(
        "", (row for row in made.rows("detection") if setting(row) == "relu" and row["stage"])
    )
    assert set(relu.success) == set(T_D)
    assert (relu.success[4], relu.at_l[4], relu.precision[4]) == (75.0, 80.0, 50.0)
    assert (relu.of_heard[4], relu.missed_zero[4], relu.late[4]) == (93.75, 20.0, 10.0)


def test_the_base_is_beside_the_paper_and_each_factor_below(store: LocalStore) -> None:
    rows = without_failed(commit(store, detection_plan(store)).rows("detection"))
    assert [each.name for each in by_network(rows)] == [
        "784-16-16-10, horizon 2",
        "784-16-16-10, horizon 8",
    ]
    found = {each.name: each.success[4] for each in by_factor(rows)}
    assert list(found) == [
        "base", "after 0 updates", "|eps| <= 0.0001 counts as 0", "horizon l_max - 1", "horizon 2",
        "layer 0 alone", "layer 1 alone", "layer 2 alone", "relu", "gamma 0.5",
    ]  # fmt: skip
    assert (found["base"], found["after 0 updates"], found["relu"]) == (100.0, 99.5, 75.0)


def test_what_is_printed(store: LocalStore) -> None:
    text = printed(store, commit(store, detection_plan(store)))
    assert line(text, "784-16-16-10, horizon 8") == ["100.0"] * len(T_D)
    papers = [each for each in text.splitlines() if each.strip().startswith("paper, Table 3")]
    assert papers[0].split()[3:] == [str(value) for value in PAPER.values()]
    assert "FROM detection" in text
    assert "sum(only_at_l) / sum(pairs)" in text
    assert (store.root / "sweeps/a/tables/detection.parquet").is_file()


def test_what_is_missing_is_said_and_what_has_failed_is_a_row(store: LocalStore) -> None:
    plan = detection_plan(store)
    record_failure(store, plan, plan.shards[0], error="MemoryError: no")
    made = commit(store, plan, slice(1, None))
    with pytest.raises(IncompleteError, match="1 trials have no result yet"):
        require_complete(made)
    [failed] = [row for row in made.rows("detection") if row["status"] == "failed"]
    assert (failed["pairs"], failed["network"]) == (None, "784-16-16-10")
    assert "1 trials are missing, 1 of them because their shard failed." in printed(store, made)


@pytest.mark.parametrize(
    ("value", "text"),
    [(100.0, "100.0"), (0.0, "0.0"), (93.44, "93.4"), (99.998, "99.998"), (0.004, "0.004")],
)
def test_a_hundred_percent_is_printed_for_nothing_else(value: float, text: str) -> None:
    assert percent(value) == text


def test_counts_are_compared_as_means_over_the_rows_of_a_trial(
    store: LocalStore, tmp_path: Path
) -> None:
    plan, other = detection_plan(store), LocalStore(tmp_path / "other")
    commit(store, plan)
    commit(other, detection_plan(other))
    at = ("--store", store.url, "--other-store", other.url)
    assert called("a", "a", *at, module="jobs.compare").code == 0
    shard = next(s for s in plan.shards if s.trials[0].configuration.activation == "relu")
    other.delete(plan.keys.commit(shard.shard_id))
    made = result(shard.trials[0])
    fewer = [replace(d, counts=replace(d.counts, late=d.counts.late - 5)) for d in made.detected]
    told = replace(made, detected=fewer)
    commit_shard(
        other, plan.keys, shard.shard_id, "again", told, DETECTION_TABLES, where(plan.name)
    )
    done = called("a", "a", *at, module="jobs.compare")
    assert done.code == 1
    [line] = [line.split() for line in done.stdout.splitlines() if "detection.late" in line]
    assert line[-8:-5] == ["20", "15", "-5"]


def test_sweeps_of_two_experiments_are_not_compared(store: LocalStore) -> None:
    detection_plan(store)
    planned(store, ablation(), "b")
    said = refusal("a", "b", "--store", store.url, module="jobs.compare")
    assert "only sweeps of one experiment" in said


def test_every_number_of_the_report_page_comes_from_its_query(store: Store) -> None:
    made = commit(store, detection_plan(store))
    page = page_of_collected(store, made)
    require_same_answers(store, made, page)
    told, *ours = page.answer("paper, Table 3").rows
    assert {t_d: told[str(t_d)] for t_d in T_D} == PAPER
    rows = without_failed(made.rows("detection"))
    for each in by_network(rows):
        (same,) = [
            row
            for row in ours
            if setting(row) == "base"
            and (row["stage"], row["tolerance"]) == (10, 0.0)
            and f"{row['network']}, horizon {row['horizon']}" == each.name
        ]
        assert {t_d: same[str(t_d)] for t_d in T_D} == each.success
