"""Tests of collectors that write the same tables at the same time.

Oracle: the tables of a collector that had the finished sweep for itself.
"""

import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from builders import ablation, commit, commit_all, planned, record_failure
from meanwhile import Meanwhile, Moment
from rich.console import Console
from tables import equal_tables

from cluster.report.publish import publish
from cluster.results.collect import Collected
from cluster.results.outdated import PASSES
from cluster.sweeps.plan import Plan
from jobs.mnist_ablation.experiment import ABLATION
from pcworker.store.keys import SweepKeys
from pcworker.store.local import LocalStore
from pcworker.store.parquet import from_parquet
from pcworker.store.store import Store


def draw(tables: Mapping[str, pa.Table]) -> Mapping[str, bytes]:
    """A figure in a moment."""
    return {"figure3.svg": str(tables["trials"].num_rows).encode()}


DRAWN = replace(ABLATION, figures=draw)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


@pytest.fixture
def plan(store: LocalStore) -> Plan:
    """A plan of at least three shards, none of which is committed."""
    made = planned(store, ablation(seeds=[1, 2]), "a", DRAWN)
    assert len(made.shards) >= 3
    return made


def published(store: Store, *plans: Plan, partial: bool = True) -> Collected:
    return publish(store, plans, Console(file=io.StringIO()), partial)


def stored(store: Store, keys: SweepKeys) -> dict[str, pa.Table]:
    """The tables as they are in the store."""
    names = ("trials", "epochs", "weights", "divergence", "failures")
    return {name: from_parquet(store.get(keys.table(name)) or b"") for name in names}


def said(table: pa.Table) -> tuple[int, int, int]:
    """What a table's metadata say of its completeness: trials, missing trials, commits."""
    trials, missing, commits = (
        int(table.schema.metadata[name]) for name in (b"trials", b"missing", b"commits")
    )
    return trials, missing, commits


def assert_complete(store: Store, plan: Plan, alone: Mapping[str, pa.Table]) -> None:
    """Checks that the tables and the figure are those of the finished sweep."""
    for name, table in stored(store, plan.keys).items():
        assert equal_tables(table, alone[name]), name
        assert said(table) == (len(plan.trials), 0, len(plan.shards)), name
    assert store.get(plan.keys.report("figure3.svg")) == str(len(plan.trials)).encode()


@pytest.fixture
def alone(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, pa.Table]:
    """The tables of the finished sweep, by a collector that nobody disturbed."""
    store = LocalStore(tmp_path_factory.mktemp("alone"))
    plan = planned(store, ablation(seeds=[1, 2]), "a", DRAWN)
    commit_all(store, plan)
    published(store, plan)
    return stored(store, plan.keys)


MOMENTS: dict[str, Moment] = {
    "before it lists failures": ("list", "failures/"),
    "while it reads": ("get", "weights.parquet"),
    "before its first table": ("put", "trials.parquet"),
    "between two tables": ("put", "divergence.parquet"),
    "before its figure": ("put", "figure3.svg"),
}


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
def test_a_slow_collector_leaves_no_holes_in_a_fast_ones_tables(
    store: LocalStore, plan: Plan, alone: Mapping[str, pa.Table], moment: Moment
) -> None:
    first, *others = plan.shards
    commit(store, plan, first)

    def finish() -> None:
        """The last shards are committed, and another collector is faster."""
        for shard in others:
            commit(store, plan, shard)
        published(store, plan, partial=False)
        assert_complete(store, plan, alone)

    slow = Meanwhile(store.root, moment, finish)
    assert published(slow, plan).missing == ()
    assert slow.times >= 1
    assert_complete(store, plan, alone)


@pytest.mark.parametrize("moment", [MOMENTS["while it reads"], MOMENTS["before its first table"]])
def test_a_slow_collector_sees_what_was_damaged_and_is_mended(
    store: LocalStore, plan: Plan, alone: Mapping[str, pa.Table], moment: Moment
) -> None:
    """The mended commit has the key of the damaged one, so no new key tells of it."""
    commit_all(store, plan)
    damaged = plan.keys.commit(plan.shards[0].shard_id)
    store.put(damaged, b"{")

    def mend() -> None:
        store.delete(damaged)
        commit(store, plan, plan.shards[0], attempt="second")
        published(store, plan, partial=False)

    slow = Meanwhile(store.root, moment, mend)
    assert published(slow, plan).damaged == ()
    assert_complete(store, plan, alone)


def test_a_collector_that_is_one_commit_too_early_need_not_be_called_again(
    store: LocalStore, plan: Plan
) -> None:
    *others, last = plan.shards
    for shard in others:
        commit(store, plan, shard)
    slow = Meanwhile(store.root, MOMENTS["while it reads"], lambda: commit(store, plan, last))
    assert published(slow, plan, partial=False).missing == ()


def test_a_collector_ends_though_shards_are_committed_all_the_time(store: LocalStore) -> None:
    plan = planned(store, ablation(seeds=range(1, 9)), "a", DRAWN)
    waiting = list(plan.shards)
    commit(store, plan, waiting.pop())
    busy = Meanwhile(
        store.root, ("list", "shards/"), lambda: commit(store, plan, waiting.pop()), always=True
    )
    made = published(busy, plan)
    assert made.missing
    assert busy.times == 2 * PASSES + 1  # two lists in each pass, and one after the tables
    for table in stored(store, plan.keys).values():
        assert said(table) == (len(plan.trials), len(made.missing), len(made.listed))


def test_failures_that_are_recorded_meanwhile_are_in_the_table(
    store: LocalStore, plan: Plan
) -> None:
    first, second, *_ = plan.shards
    commit(store, plan, first)

    def fail() -> None:
        record_failure(store, plan, second)
        published(store, plan)

    published(Meanwhile(store.root, ("put", "failures.parquet"), fail), plan)
    tables = stored(store, plan.keys)
    assert tables["failures"].num_rows == 1
    assert tables["trials"]["status"].to_pylist().count("failed") == len(second.trials)


def test_damage_that_stays_does_not_keep_a_collector_for_ever(
    store: LocalStore, plan: Plan
) -> None:
    commit_all(store, plan)
    store.put(plan.keys.commit(plan.shards[0].shard_id), b"{")
    assert len(published(store, plan).damaged) == 1


def test_two_sweeps_may_be_complete_together_while_one_of_them_runs(
    store: LocalStore, plan: Plan
) -> None:
    """What the running one has not committed is not missing: the other one has the same trials."""
    runs = planned(store, ablation(seeds=[1, 2]), "b", DRAWN)
    for shard in plan.shards[1:]:
        commit(store, plan, shard)
    events = [
        lambda: record_failure(store, runs, runs.shards[0]),  # costs the first pass
        lambda: (commit(store, plan, plan.shards[0]), published(store, plan, runs)),
    ]

    def happen() -> None:
        if events:
            events.pop(0)()

    slow = Meanwhile(store.root, MOMENTS["before its first table"], happen, always=True)
    made = published(slow, plan, runs)
    for table in stored(store, made.keys).values():
        assert said(table) == (len(plan.trials), 0, len(plan.shards))


def test_every_table_says_how_complete_it_is(store: LocalStore, plan: Plan) -> None:
    first, second, *others = plan.shards
    commit(store, plan, first)
    record_failure(store, plan, second)
    missing = len(plan.trials) - len(first.trials)
    for table in published(store, plan).tables.values():
        assert said(table) == (len(plan.trials), missing, 1)
    for shard in (second, *others):
        commit(store, plan, shard)
    for table in published(store, plan).tables.values():
        assert said(table) == (len(plan.trials), 0, len(plan.shards))
