"""Two collectors write the same tables, and two sweeps hold the same trials with other results.
Collectors compact the same commits, are killed at it, or do it while shards are committed.

The oracle of the latter is a collector that compacts nothing, alone with all commits.
"""

import io
import multiprocessing
import os
import shutil
import signal
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import many_commits
import pyarrow as pa
import pytest
from builders import Counting, commit_all
from faults import (
    KEYS,
    NAME,
    SHARDS,
    TRIALS,
    assert_nothing_lost,
    collected,
    commits,
    here,
    running,
)
from many_commits import Unsynced, commit_many, plan_of_many
from meanwhile import Meanwhile, Moment
from rich.console import Console
from tables import RESULTS

from cluster.report.publish import publish
from cluster.results.collect import collect, write_tables
from cluster.results.compaction.choice import FEWEST
from cluster.results.compaction.entries import COMMITS
from cluster.sweeps.plan import Plan
from cluster.sweeps.stored import read_plan, store_plan
from jobs.experiments import EXPERIMENTS
from pcworker.store.local import LocalStore
from pcworker.store.parquet import from_parquet

pytestmark = pytest.mark.faults


@pytest.fixture
def copy(undisturbed: LocalStore, tmp_path: Path) -> LocalStore:
    """The undisturbed sweep, in a store of the test's own."""
    return LocalStore(shutil.copytree(undisturbed.root, tmp_path / "copy"))


def plan_of(store: LocalStore) -> Plan:
    plan = read_plan(store, NAME, EXPERIMENTS)
    assert plan is not None
    return plan


@pytest.mark.parametrize("moment", [("get", "weights.parquet"), ("put", "weights.parquet")])
def test_a_slow_collector_leaves_no_holes_in_the_tables_of_a_fast_one(
    copy: LocalStore, undisturbed: LocalStore, moment: Moment
) -> None:
    """The sweep ends, and is collected, while the slow one reads, or while it writes."""
    late = KEYS.commit(sorted(commits(copy))[-1])
    data = copy.get(late) or b""
    copy.delete(late)
    before = commits(copy)

    def finish() -> None:
        copy.put(late, data)
        publish(copy, [plan_of(copy)], Console(file=io.StringIO()), partial=False)
        assert_nothing_lost(copy, before, undisturbed)

    slow = Meanwhile(copy.root, moment, finish)
    publish(slow, [plan_of(copy)], Console(file=io.StringIO()), partial=True)
    assert_nothing_lost(copy, before, undisturbed)
    for name in RESULTS:
        said = from_parquet(copy.get(KEYS.table(name)) or b"").schema.metadata
        counts = (said[b"trials"], said[b"missing"], said[b"commits"])
        assert counts == (b"%d" % (SHARDS * TRIALS), b"0", b"%d" % SHARDS), name
    for file in ("figure3.png", "figure3.svg"):
        assert copy.get(KEYS.report(file)) == undisturbed.get(KEYS.report(file))


def test_another_sweep_with_other_results_is_named_and_the_exit_code_tells(
    copy: LocalStore, undisturbed: LocalStore
) -> None:
    """The other sweep's results are made up, as a broken machine makes them."""
    before = commits(copy)
    other = replace(plan_of(copy), name="other")
    store_plan(copy, other, {})
    commit_all(copy, other)
    done = here("jobs.collect", "--store", copy.url, "--sweep", f"other,{NAME}")
    assert (done.code, done.stderr) == (1, "")
    count = SHARDS * TRIALS
    assert f"{count} trials of several sweeps compared, {count} differ." in done.stdout
    lines = [line for line in done.stdout.splitlines() if line.startswith("trial ")]
    assert len(lines) == count
    assert all(f"sweep {NAME}, " in line and "sweep other, " in line for line in lines)
    alone = collected(copy)
    assert alone.code == 0, alone.stderr
    assert_nothing_lost(copy, before, undisturbed)


# Compactions

MANY = plan_of_many(2 * FEWEST)
ENDED = multiprocessing.get_context("spawn")
"""Processes that share nothing with this one, so that they can be killed."""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> LocalStore:
    """Many commits and no compaction. Tests only read it."""
    store = Unsynced(tmp_path_factory.mktemp("many"))
    store_plan(store, MANY, {})
    commit_many(store, MANY, MANY.shards)
    return store


@pytest.fixture(scope="module")
def alone(many: LocalStore, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, pa.Table]:
    """The tables of a collector that compacts nothing."""
    store = Unsynced(shutil.copytree(many.root, tmp_path_factory.mktemp("alone") / "store"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cluster.results.compaction.gather.FEWEST", len(MANY.shards) + 1)
        return dict(collect(store, [MANY]).tables)


@pytest.fixture
def folder(many: LocalStore, tmp_path: Path) -> Path:
    """A copy of the many commits, of the test's own."""
    return Path(shutil.copytree(many.root, tmp_path / "many"))


def assert_compacted(folder: Path, alone: Mapping[str, pa.Table]) -> None:
    """Checks that the tables are those of the oracle, to the order of rows, for a collector that
    reads no shard."""
    store = Counting(folder)
    for name, table in collect(store, [MANY]).tables.items():
        assert table.equals(alone[name]), name
    assert not [key for key in store.read if key.startswith(MANY.keys.shards)]


def records(store: LocalStore) -> list[str]:
    keys = MANY.keys
    return [key for key in store.list(keys.compactions) if key.endswith(".json")]


def test_two_collectors_at_once_compact_the_same_commits(
    folder: Path, alone: Mapping[str, pa.Table]
) -> None:
    command = ("jobs.collect", "--store", str(folder), "--sweep", many_commits.NAME)
    with ExitStack() as stack:
        for job in [stack.enter_context(running(*command)) for _ in range(2)]:
            done = job.end()
            assert done.code == 0, done.stderr
    assert 1 <= len(records(LocalStore(folder))) <= 2
    assert_compacted(folder, alone)
    for name in RESULTS:
        stored = from_parquet(LocalStore(folder).get(MANY.keys.table(name)) or b"")
        assert stored.equals(alone[name]), name


def test_commits_that_were_compacted_twice_count_once(
    folder: Path, alone: Mapping[str, pa.Table]
) -> None:
    """The other collector compacts everything while this one does."""
    slow = Meanwhile(
        folder, ("put", f"{COMMITS}.parquet"), lambda: collect(Unsynced(folder), [MANY])
    )
    collect(slow, [MANY])
    assert slow.times >= 1
    assert len(records(slow)) == 2
    assert_compacted(folder, alone)


@pytest.mark.parametrize("file", ["trials.parquet", f"{COMMITS}.parquet"])
def test_a_collector_killed_in_mid_compaction_loses_nothing(
    folder: Path, alone: Mapping[str, pa.Table], file: str
) -> None:
    """It is killed before its first file of a compaction, or before the last one."""
    process = ENDED.Process(target=_killed, args=(folder, file))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    store = Unsynced(folder)
    assert records(store) == []
    assert bool(store.list(MANY.keys.compactions)) == (file != "trials.parquet")
    for name, table in collect(store, [MANY]).tables.items():
        assert table.equals(alone[name]), name
    assert_compacted(folder, alone)


def test_a_collector_beside_running_shards_sees_whole_shards_only(
    alone: Mapping[str, pa.Table], tmp_path: Path
) -> None:
    store = Unsynced(tmp_path)
    half = FEWEST + 5
    commit_many(store, MANY, MANY.shards[:half])
    process = ENDED.Process(target=_commits_the_rest, args=(tmp_path, half))
    process.start()
    while process.is_alive():
        made = collect(store, [MANY])
        write_tables(store, made)
        trials, weights = (made.tables[name]["trial_id"].to_pylist() for name in RESULTS[:3:2])
        assert len(set(trials)) == len(trials) >= half * many_commits.TRIALS
        assert len(trials) % many_commits.TRIALS == 0
        assert weights == [each for each in trials for _ in range(2)]
        assert made.damaged == ()
    process.join()
    assert process.exitcode == 0
    for name, table in collect(store, [MANY]).tables.items():
        assert table.equals(alone[name]), name


def _killed(folder: Path, file: str) -> None:
    """Collects, and is killed before it writes this file. Its temporary files stay."""
    tempfile.tempdir = str(folder.parent)
    kill = lambda: os.kill(os.getpid(), signal.SIGKILL)  # noqa: E731
    collect(Meanwhile(folder, ("put", file), kill), [MANY])


def _commits_the_rest(folder: Path, first: int) -> None:
    commit_many(LocalStore(folder), MANY, MANY.shards[first:])
