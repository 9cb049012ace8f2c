"""Workers and drivers are killed, two drivers run at once, a shard always fails: nothing that was
committed is lost, and the tables are the same to the last bit."""

import json
import signal
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from faults import (
    KEYS,
    NETWORKS,
    SHARDS,
    TRIALS,
    Run,
    arguments,
    assert_nothing_lost,
    attempts,
    commits,
    declared,
    failures,
    here,
    kill_mid_shard,
    read_tables,
    running,
    unfinished,
)
from tables import equal_tables

from pcworker.store.local import LocalStore

pytestmark = pytest.mark.faults

TOO_WIDE = "784-900000000-10"
"""A network whose weights, 5.6 TB, fit into no memory."""
MEMORY_FAILURES = 3
"""One at each of the widths 2, 1 and 1."""


def test_a_killed_worker_costs_at_most_an_epoch_and_a_killed_driver_nothing(
    undisturbed: LocalStore, tmp_path: Path
) -> None:
    """First a worker is killed in mid-shard. When the one in its place has committed another shard,
    the driver is killed, and the command that goes on trains in its own process."""
    store = LocalStore(tmp_path)
    with running(*arguments(store, "--workers", "1")) as killed:
        [(shard, epoch)] = kill_mid_shard(killed, store).items()
        killed.wait_for(
            lambda: commits(store) and unfinished(store).keys() - {shard},
            "a commit, and a checkpoint of a third shard",
        )
        killed.kill()
        first, at_kill = Run(-signal.SIGKILL, killed.stdout, killed.stderr), commits(store)
        # at once: the killed driver's worker may still be at its shard, and commit it
        done = here(*arguments(store, "--local-debug"))
    assert done.code == 0, done.stderr

    [failed] = first.events("failed")
    assert (failed["shard"], failed["kind"], failed["quarantined"]) == (shard, "lost", "False")
    assert len(first.events("worker")) == 2  # the one in its place
    assert [row["shard_id"] for row in failures(store)] == [shard]

    assert shard not in at_kill and 0 < len(at_kill) < SHARDS
    resumed = {event["shard"]: event.get("resumed_from") for event in done.events("committed")}
    assert resumed[shard] == str(epoch)
    mine = [event for name in ("committed", "lost") for event in done.events(name)]
    assert not {event["shard"] for event in mine} & at_kill.keys()
    for finished_shard, commit in at_kill.items():
        assert attempts(store, finished_shard) == {json.loads(commit)["attempt_id"]}
    assert_nothing_lost(store, at_kill, undisturbed)


def test_two_drivers_at_once_are_one_sweep(undisturbed: LocalStore, tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    command = arguments(store, "--workers", "1")
    with running(*command) as one, running(*command) as other:
        one.wait_for(lambda: commits(store), "a commit")
        before = commits(store)
        runs = (one.end(), other.end())
    assert [run.code for run in runs] == [0, 0], [run.stderr for run in runs]
    committed = [event["shard"] for run in runs for event in run.events("committed")]
    assert sorted(committed) == sorted(commits(store))  # each once
    assert not [event for run in runs for event in run.events("differs")]
    assert store.get(KEYS.plan) is not None
    [sweep] = (tmp_path / "sweeps").iterdir()
    assert sweep.name == KEYS.root.removeprefix("sweeps/")
    assert_nothing_lost(store, before, undisturbed)


def test_a_shard_that_always_fails_is_set_aside_and_the_others_are_done(
    undisturbed: LocalStore, tmp_path: Path
) -> None:
    store = LocalStore(tmp_path)
    sweep = ("--store", store.url, *declared(NETWORKS[-1], TOO_WIDE))
    # preflight would find the disk too small for this network
    sweep += ("--no-preflight", "--local-debug")
    done = here("jobs.mnist_ablation", *sweep)
    assert done.code == 1, done.stderr
    assert "1 shard failed" in done.stdout
    failed = done.events("failed")
    assert {event["kind"] for event in failed} == {"memory"}
    assert [event["quarantined"] for event in failed] == ["False"] * (MEMORY_FAILURES - 1) + [
        "True"
    ]
    rows = failures(store)
    assert len(rows) == MEMORY_FAILURES
    assert sum(bool(row["quarantined"]) for row in rows) == 1
    assert all("can't allocate memory" in str(row["traceback"]) for row in rows)
    assert all("pcworker/worker.py" in str(row["traceback"]) for row in rows)
    before = commits(store)
    assert len(before) == 1
    assert_equal_rows(NETWORKS[-1], store, undisturbed)

    again = here("jobs.mnist_ablation", *sweep)
    assert again.code == 1
    assert {event["shard"] for event in again.events("failed")} == {failed[0]["shard"]}
    assert len(failures(store)) == 2 * MEMORY_FAILURES  # it was tried anew
    assert commits(store) == before


def assert_equal_rows(network: str, store: LocalStore, undisturbed: LocalStore) -> None:
    """Fails unless the rows of a network's trials are those of the undisturbed sweep."""
    ours, theirs = (rows_of(network, read_tables(one)) for one in (store, undisturbed))
    for name, table in ours.items():
        assert table.num_rows > 0
        assert equal_tables(table, theirs[name]), f"{name} differs"


def rows_of(network: str, tables: dict[str, pa.Table]) -> dict[str, pa.Table]:
    """The tables without the rows of other networks."""
    trials = tables["trials"].filter(pc.equal(tables["trials"]["network"], network))
    assert trials.num_rows == TRIALS
    return {
        name: table.filter(
            pc.equal(table["network"], network)
            if "network" in table.column_names
            else pc.is_in(table["trial_id"], trials["trial_id"].combine_chunks())
        )
        for name, table in tables.items()
    }
