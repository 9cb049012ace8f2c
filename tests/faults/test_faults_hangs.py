"""Workers that neither die nor work, and a store that takes requests and never answers them: they
are found, named and replaced, and nothing is lost."""

import signal
import threading
from pathlib import Path

import pytest
from faults import (
    KEYS,
    Run,
    arguments,
    assert_nothing_lost,
    commits,
    failures,
    running,
    signalled,
    unfinished,
)
from faulty_proxy import FaultyProxy
from running import processes, wait_until, workers

from pcworker.store.local import LocalStore
from pcworker.store.s3.s3 import S3Store

pytestmark = pytest.mark.faults

SOON = ("--workers", "1", "--hang-minutes", "0.4")
"""An attempt is taken to hang after 24 seconds without progress, or 12 without an answer."""


def the_one_that_hung(run: Run, store: LocalStore | S3Store) -> dict[str, str]:
    """The one failed attempt of a run, which was taken to hang."""
    assert run.code == 0, run.stdout + run.stderr
    [failed] = run.events("failed")
    assert (failed["kind"], failed["quarantined"]) == ("hung", "False")
    [row] = failures(store)
    assert (row["kind"], row["shard_id"]) == ("hung", failed["shard"])
    assert len(run.events("worker")) == 2  # the one in its place
    return failed


def test_a_stopped_worker_is_found_and_replaced(undisturbed: LocalStore, tmp_path: Path) -> None:
    """The worker's process is stopped in mid-shard, as by a debugger or a machine that swaps."""
    store = LocalStore(tmp_path)
    with running(*arguments(store, *SOON)) as job:
        job.wait_for(lambda: unfinished(store), "a checkpoint")
        stopped = workers(job.process.pid)
        signalled(stopped, signal.SIGSTOP)
        before = commits(store)
        job.says("event=failed")
        assert wait_until(lambda: not stopped & processes().keys())
        done = job.end()
    failed = the_one_that_hung(done, store)
    assert "its worker has not answered for 1" in failed["error"]
    assert f"worker {next(iter(stopped))[0]} on " in failed["error"]
    assert_nothing_lost(store, before, undisturbed)


def test_a_request_that_is_never_answered_costs_one_worker(
    store: S3Store, proxy: FaultyProxy, undisturbed: LocalStore
) -> None:
    """The worker's commit is stuck, while the store answers the driver."""
    arrived = threading.Event()
    proxy.inject("hang", "PUT", r"/weights\.parquet", first=arrived.set)
    with running(*arguments(store, *SOON, "--s3-endpoint", proxy.endpoint)) as job:
        job.wait_for(arrived.is_set, "a stuck request")
        before = commits(store)
        done = job.end()
    failed = the_one_that_hung(done, store)
    assert "no progress for 2" in failed["error"]
    assert "at the store" in failed["error"]
    assert_nothing_lost(store, before, undisturbed)


def test_a_store_that_never_answers_the_driver_delays_no_shard(
    store: S3Store, proxy: FaultyProxy, undisturbed: LocalStore
) -> None:
    """No sign of life is ever answered. A driver that waited for one would wait for minutes."""
    proxy.inject("hang", "PUT", f"/{KEYS.drivers}", times=1000)
    with running(*arguments(store, "--workers", "1", "--s3-endpoint", proxy.endpoint)) as job:
        job.wait_for(lambda: len(commits(store)) == 3, "all commits")
        assert set(proxy.injected) == {"hang"}
        done = job.end()
    assert done.code == 0, done.stderr
    assert not done.events("failed")
    assert_nothing_lost(store, {}, undisturbed)


@pytest.mark.long  # three attempts, each of which is waited for
def test_a_shard_that_hangs_everywhere_is_given_up(store: S3Store, proxy: FaultyProxy) -> None:
    """No worker's request for this one shard is ever answered. The others are done."""
    proxy.inject("hang", "PUT", r"/shards/0000-\w+/.*/weights\.parquet", times=1000)
    with running(*arguments(store, *SOON, "--s3-endpoint", proxy.endpoint)) as job:
        done = job.end()
    assert done.code == 1, done.stdout + done.stderr
    failed = done.events("failed")
    assert {each["kind"] for each in failed} == {"hung"}
    assert [each["quarantined"] for each in failed] == ["False", "False", "True"]
    assert len({each["shard"] for each in failed}) == 1
    assert len(commits(store)) == 2
