"""Timing runs are disturbed: the weights are those of an undisturbed run, and every row of times is
from one attempt that was timed from its beginning to its end."""

from pathlib import Path

import pytest
from faults import KEYS, NAME, commits, finished, here, kill_workers, running
from tables import equal_tables

from pcworker.store.local import LocalStore
from pcworker.store.parquet import from_parquet
from pcworker.store.store import Store

pytestmark = pytest.mark.faults

UPDATES, BLOCK = 32, 4


def timing(store: Store) -> tuple[str, ...]:
    return (
        *("jobs.imagenet_timing", "--store", store.url, "--sweep", NAME),
        *("--networks", "small-conv", "--updates", str(UPDATES), "--block", str(BLOCK)),
        *("--t", "4", "--seeds", "1,2", "--cpus-per-worker", "1"),
    )


ON_RAY = ("--workers", "1")


def test_killed_workers_and_a_killed_driver_cost_time_and_no_bit(tmp_path: Path) -> None:
    store, other = LocalStore(tmp_path / "disturbed"), LocalStore(tmp_path / "undisturbed")
    with running(*timing(store), *ON_RAY) as job:
        job.says("Sweep faults")  # from here on a shard is at work
        kill_workers(job)
        job.wait_for(lambda: len(commits(store)) == 1, "a commit")
        before = commits(store)
        job.kill()
    done = finished(*timing(store), *ON_RAY)
    assert done.code == 0, done.stderr
    assert before.items() <= commits(store).items()
    assert here(*timing(other), "--local-debug").code == 0
    tables = [
        {name: from_parquet(one.get(KEYS.table(name)) or b"") for name in ("timings", "weights")}
        for one in (store, other)
    ]
    assert equal_tables(tables[0]["weights"], tables[1]["weights"])
    failures = from_parquet(store.get(KEYS.table("failures")) or b"").to_pylist()
    assert [row["kind"] for row in failures] == ["lost"]
    rows = tables[0]["timings"].to_pylist()
    assert len(rows) == 2 * 6
    assert {len(row["ms_per_update"]) for row in rows} == {UPDATES // BLOCK}
    assert len({(row["shard_id"], row["attempt_id"]) for row in rows}) == 2
