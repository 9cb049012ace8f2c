"""Tests of the comparison of two sweeps, by what `jobs.compare` says and its exit code. Results are
made up (see `builders`), so that the differences are known in closed form."""

import csv
import io
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import (
    Drift,
    ablation,
    commit,
    commit_all,
    paper_drift,
    planned,
    record_failure,
    with_z_il_changed,
)
from command_lines import Ended, called, files, refusal

from cluster.comparison.side import Side, TrialOutcome
from cluster.comparison.verdict import Summary, compare_sides
from cluster.comparison.weights import largest_difference
from cluster.sweeps.plan import Plan
from cluster.sweeps.stored import store_plan
from pcworker.store.local import LocalStore
from pcworker.training.results import TrialResult
from pcworker.trials.trial import Trial


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def made(store: LocalStore, name: str, drift: Drift = paper_drift, **axes: Any) -> Plan[Any]:
    plan = planned(store, ablation(**axes), name)
    commit_all(store, plan, drift)
    return plan


def compare(store: LocalStore, *options: str) -> Ended:
    return called("a", "b", "--store", store.url, *options, module="jobs.compare")


def rows_of(ended: Ended) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(ended.stdout)))


def changed(store: LocalStore, change: Callable[[TrialResult], TrialResult]) -> None:
    """Makes the sweep b, in which the exact cell of Z-IL is changed."""
    plan = planned(store, ablation(), "b")
    for shard in plan.shards:
        told = replace(with_z_il_changed(shard, change), wall_seconds=9.0)
        commit(store, plan, shard, result=told, hostname="there", device="a gpu")


def test_equal_sweeps_have_no_difference_whatever_ran_them(store: LocalStore) -> None:
    made(store, "a")
    changed(store, lambda result: result)
    before = {path: path.read_bytes() for path in files(store.root)}
    done = compare(store)
    assert (done.code, done.stderr) == (0, "")
    assert "8 equal bit for bit (8 trials), 0 different" in done.stdout
    assert "0 differences" in done.stdout
    assert "here, cpu: by hand" in done.stdout and "there, a gpu" in done.stdout
    assert {path: path.read_bytes() for path in files(store.root)} == before


def test_one_bit_of_one_weight_is_found(store: LocalStore) -> None:
    made(store, "a")

    def flipped(result: TrialResult) -> TrialResult:
        [[first], *rest] = result.parameters
        other = first.copy()
        other[0, 0] = 1e-45  # The smallest number, for a zero.
        return replace(result, parameters=[[other], *rest])

    changed(store, flipped)
    done = compare(store)
    assert (done.code, done.stderr) == (1, "")
    assert "7 equal bit for bit (7 trials), 1 different" in done.stdout
    assert "(bits only)" in done.stdout
    assert "weights (1 of 1); no weight by more than 1.4e-45" in done.stdout
    [row] = [row for row in rows_of(compare(store, "--format", "csv")) if row["measure"] == ""
             and row["verdict"] == "differs"]  # fmt: skip
    assert (row["rule"], row["differing_tables"], row["sigma"]) == ("Z-IL", "weights", "0.0")
    assert float(row["weights_apart"]) == float(np.float32(1e-45))


def test_a_missing_seed_and_a_missing_result_are_differences(store: LocalStore) -> None:
    made(store, "a", seeds=[1, 2])
    made(store, "b", seeds=[1])
    done = compare(store)
    assert done.code == 1
    assert "0 equal bit for bit (0 trials), 8 different" in done.stdout
    assert "seeds only in A: 2" in done.stdout
    plan = planned(store, ablation(), "c")
    for shard in plan.shards[1:]:
        commit(store, plan, shard)
    record_failure(store, plan, plan.shards[0])
    for names in (("b", "c"), ("c", "c")):  # What has no result anywhere is not known to be equal.
        done = called(*names, "--store", store.url, module="jobs.compare")
        assert done.code == 1
        assert f"B has no result of {len(plan.shards[0].trials)} trials" in done.stdout


def test_another_engine_is_compared_and_named(store: LocalStore, tmp_path: Path) -> None:
    made(store, "a")
    old = planned(store, ablation(), "unused")
    trials = [Trial(t.configuration, t.seed, 1) for t in old.trials if t.configuration]
    shard = replace(old.shards[0], trials=tuple(trials))
    other = LocalStore(tmp_path / "other")
    plan = replace(old, name="b", shards=(shard,))
    store_plan(other, plan, {})
    commit(other, plan, shard)
    done = compare(store, "--other-store", other.url)
    assert (done.code, done.stderr) == (0, "")
    assert "engine 2" in done.stdout and "engine 1" in done.stdout
    assert "8 equal bit for bit" in done.stdout


def test_cells_that_stop_being_finite_come_first(store: LocalStore) -> None:
    made(store, "a", lambda trial: 0.0)
    made(store, "b")  # 1/8 at most of IL, and nothing finite at gamma = 10.
    done = compare(store, "--format", "json")
    said = json.loads(done.stdout)
    assert (done.code, said["equal"]) == (1, False)
    differing = [row for row in said["rows"] if row["verdict"] == "differs"]
    assert differing[0]["gamma"] == 10.0
    assert (differing[0]["mean_b"], differing[0]["difference"]) == (None, None)
    errors = [row for row in differing if row["measure"] == "trials.final_test_error"]
    assert {row["difference"] for row in errors} == {None, 0.125}
    assert "none finite" in compare(store).stdout


def test_other_epochs_are_other_cells_and_the_reason_is_said(store: LocalStore) -> None:
    made(store, "a")
    made(store, "b", epochs=3)
    done = compare(store)
    assert done.code == 1
    assert "Only in A: 8 cells." in done.stdout
    assert "epochs is 1 in A and 3 in B; --ignore epochs compares" in done.stdout
    only = [row["verdict"] for row in rows_of(compare(store, "--format", "csv"))]
    assert only == ["only in A"] * 8 + ["only in B"] * 8


def test_a_field_that_may_differ_is_ignored_if_it_tells_no_cells_apart(
    store: LocalStore,
) -> None:
    made(store, "a")
    made(store, "b", sums="library")
    assert "sums is fixed in A and library in B; --ignore sums" in compare(store).stdout
    done = compare(store, "--ignore", "sums")
    assert (done.code, done.stderr) == (0, "")
    assert "8 equal bit for bit" in done.stdout
    at = ("a", "b", "--store", store.url, "--ignore")
    assert "differ in gamma alone" in refusal(*at, "gamma", module="jobs.compare")
    assert "the fields are network" in refusal(*at, "colour", module="jobs.compare")


def test_the_largest_difference_of_a_weight_is_found_in_all_seeds(store: LocalStore) -> None:
    made(store, "a", lambda trial: 0.25, seeds=[1, 2])
    made(store, "b", lambda trial: 0.25 + 0.25 / trial.seed, seeds=[1, 2])
    said = json.loads(compare(store, "--format", "json").stdout)
    assert {row["weights_apart"] for row in said["rows"]} == {0.25}


@pytest.mark.parametrize(
    ("a", "b", "largest"),
    [
        ({(1, "weight"): [1.0, 2.0]}, {(1, "weight"): [1.5, 0.0]}, 2.0),
        ({(1, "weight"): [1.0]}, {(1, "weight"): [1.0, 2.0]}, None),
        ({(1, "weight"): [1.0]}, {(2, "weight"): [1.0]}, None),
        ({(1, "weight"): None}, {(1, "weight"): [1.0]}, None),
        ({}, {(1, "weight"): [1.0]}, None),
        ({}, {}, None),
    ],
)
def test_weights_of_other_shapes_have_no_difference(a: Any, b: Any, largest: Any) -> None:
    one, two = (
        {place: values and np.array(values) for place, values in each.items()} for each in (a, b)
    )
    assert largest_difference(one, two) == largest


def side(name: str, *values: float | None) -> Side:
    outcomes = {
        seed: TrialOutcome("id", {"t": repr(value).encode()}, {"t.x": value}, {})
        for seed, value in enumerate(values)
    }
    return Side(name, "here", 1, (), (), 0, (), {(("network", "3-2-2"),): outcomes})


def test_a_trial_without_rows_in_a_table_has_no_number_there() -> None:
    a, b = side("a", 1.0, 2.0), side("b", 1.0, 2.0)
    [seeds] = a.cells.values()
    changed = {**seeds, 1: replace(seeds[1], digests={"t": b""}, numbers={})}
    [cell] = compare_sides(replace(a, cells={next(iter(a.cells)): changed}), b).cells
    assert cell.differing == {"t": 1}
    assert [(apart.a.n, apart.a.of, apart.b.n) for apart in cell.apart] == [(1, 2, 2)]


def test_a_difference_is_in_units_of_the_pooled_standard_deviation() -> None:
    [cell] = compare_sides(side("a", 1.0, 3.0), side("b", 5.0, 7.0)).cells
    [apart] = cell.apart
    assert apart.a == Summary(2, 2, 2.0, math.sqrt(2))
    assert apart.difference == 4.0
    assert apart.in_spreads == pytest.approx(4 / math.sqrt(2))


@pytest.mark.parametrize(
    ("a", "b", "in_spreads"),
    [
        ([1.0], [2.0], None),  # One seed has no spread.
        ([1.0, 1.0], [2.0, 2.0], math.inf),  # The seeds agree.
        ([2.0, 2.0], [1.0, 1.0], -math.inf),
        ([1.0, 2.0], [2.0, 1.0], 0.0),  # The same mean with other bits.
        ([1.0, None], [None, 2.0], None),
        ([1e308, -1e308], [1.0, 2.0], pytest.approx(0.0)),
    ],
)
def test_where_the_spread_is_zero_or_unknown(
    a: list[float | None], b: list[float | None], in_spreads: Any
) -> None:
    verdict = compare_sides(side("a", *a), side("b", *b))
    assert not verdict.is_equal
    [apart] = verdict.cells[0].apart
    assert apart.in_spreads == in_spreads


def test_a_page_holds_the_same_facts_and_escapes_them(store: LocalStore, tmp_path: Path) -> None:
    made(store, "a")
    plan = planned(store, ablation(), "b")
    for shard in plan.shards:
        commit(store, plan, shard, lambda trial: 0.25, hostname="<script>")
    page = tmp_path / "page.html"
    done = compare(store, "--page", str(page))
    text = page.read_text()
    assert done.code == 1
    assert "trials.final_test_error" in text and "&lt;script&gt;" in text and "<script>" not in text
    assert "http" not in text
    assert refusal("a", "b", "--store", store.url, "--page", str(tmp_path / "no" / "x.html"),
                   module="jobs.compare")  # fmt: skip


def test_a_sweep_that_is_not_there_is_refused_in_one_line(store: LocalStore) -> None:
    made(store, "a")
    assert "no sweep b" in refusal("a", "b", "--store", store.url, module="jobs.compare")
