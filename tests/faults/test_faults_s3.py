"""An object store is in trouble: answers are lost, errors come in bursts, an outage is longer than
every retry, a worker is killed between its upload and its commit.

The store is SeaweedFS, behind a proxy that fails when it is told to.
"""

import signal
import threading

import pytest
from faults import (
    KEYS,
    NAME,
    PATIENCE_S,
    SHARDS,
    Job,
    Run,
    arguments,
    assert_nothing_lost,
    assert_trained_once,
    attempts,
    collected,
    commits,
    here,
    kill_workers,
    running,
    unfinished,
)
from faulty_proxy import FaultyProxy
from seaweed import Seaweed
from tables import RESULTS

from pcworker.store.local import LocalStore
from pcworker.store.s3.s3 import S3Store

pytestmark = pytest.mark.faults

COMMIT = r"/commit\.json"
LAST_CHECKPOINT = r"/checkpoint-2\.npz"
SOON_AT_AN_END = {"AWS_MAX_ATTEMPTS": "2"}
"""With this a cycle of retries takes a second or two. By default it takes ten."""
REFUSED = 12
"""An outage lasts until so many requests, of workers and driver, were left without an answer."""


def through(proxy: FaultyProxy, store: S3Store) -> tuple[str, ...]:
    """The sweep's command, by one worker, on the store behind the proxy."""
    return arguments(store, "--workers", "1", "--s3-endpoint", proxy.endpoint)


def assert_no_failure(run: Run, store: S3Store) -> None:
    """Fails if an attempt has failed, or if a shard was trained or committed twice."""
    assert run.code == 0, run.stderr
    assert not run.events("failed")
    assert not store.list(KEYS.failures)
    assert sorted(e["shard"] for e in run.events("committed")) == sorted(commits(store))
    assert_trained_once(store)


def test_a_worker_killed_between_upload_and_commit(
    store: S3Store, proxy: FaultyProxy, undisturbed: LocalStore
) -> None:
    arrived, killed = threading.Event(), threading.Event()

    def hold() -> None:
        arrived.set()
        killed.wait(PATIENCE_S)

    proxy.inject("close", "PUT", COMMIT, first=hold)  # the request is never handed on
    with running(*through(proxy, store)) as job:
        job.wait_for(arrived.is_set, "the first commit on its way")
        [shard] = unfinished(store)
        assert len(attempts(store, shard)) == 1
        before = commits(store)
        assert shard not in before
        kill_workers(job)
        killed.set()
        done = job.end()
    assert done.code == 0, done.stderr
    [failed] = done.events("failed")
    assert (failed["shard"], failed["kind"]) == (shard, "lost")
    assert len(attempts(store, shard)) == 2
    assert_trained_once(store, shard)
    assert_nothing_lost(store, before, undisturbed)
    audited = "Determinism audit: 1 repeated attempts of 1 shards, all bit-identical."
    assert audited in done.stdout
    assert audited in collected(store).stdout


def test_lost_answers_and_errors_in_bursts_cost_time_and_nothing_else(
    store: S3Store,
    proxy: FaultyProxy,
    server: Seaweed,
    undisturbed: LocalStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lost() -> None:
        proxy.inject("internal error", "GET", COMMIT, times=3)  # so is the first look at the commit

    proxy.inject("slow down", "PUT", times=5)
    proxy.inject("internal error", "GET", times=5)
    proxy.inject("hang", "PUT", r"/checkpoint-1\.npz")
    proxy.inject("close", "PUT", LAST_CHECKPOINT, times=4)
    proxy.inject("lose answer", "DELETE", times=2)
    proxy.inject("internal error", "PUT", r"/epochs\.parquet", times=4)
    proxy.inject("slow down", "PUT", r"/weights\.parquet", times=4)
    proxy.inject("lose answer", "PUT", r"/attempt\.json", times=2)
    proxy.inject("slow down", "PUT", COMMIT, times=4)
    proxy.inject("lose answer", "PUT", COMMIT, times=SHARDS, first=lost)
    proxy.inject("truncate", "GET", r"\.parquet", times=4)
    done = here(*arguments(store, "--local-debug", "--s3-endpoint", proxy.endpoint))
    assert proxy.injected == {
        "slow down": 13,
        "internal error": 9 + 3 * SHARDS,
        "hang": 1,
        "close": 4,
        "lose answer": 4 + SHARDS,
        "truncate": 4,
    }
    assert_no_failure(done, store)
    assert_nothing_lost(store, {}, undisturbed)
    assert_other_commands_find_it(store, server, undisturbed, monkeypatch)


def assert_other_commands_find_it(
    store: S3Store, server: Seaweed, undisturbed: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails unless collector and status read the sweep, by the endpoint of the environment and by
    that of their option, which comes first."""
    job = ("--store", store.url, "--sweep", NAME)
    for options in ((), ("--s3-endpoint", server.server.endpoint)):
        for table in RESULTS:
            store.delete(KEYS.table(table))
        again = here("jobs.collect", *job, *options)
        assert (again.code, again.stderr) == (0, "")
        assert_nothing_lost(store, {}, undisturbed)
        status = here("jobs.status", *job, *options)
        assert (status.code, status.stderr) == (0, "")
        assert f"{SHARDS} done" in " ".join(status.stdout.split())
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")  # nobody listens there


def test_a_store_that_is_away_for_long_or_crashes_is_waited_for(
    store: S3Store, proxy: FaultyProxy, server: Seaweed, undisturbed: LocalStore
) -> None:
    """The first outage is between two shards, the second one is in mid-shard. While the last shard
    is trained, the server is killed and started again."""

    def go_away() -> None:
        proxy.down = True

    proxy.inject("pass", "DELETE", LAST_CHECKPOINT, first=go_away)  # the last of a shard's requests
    with running(*through(proxy, store), extra=SOON_AT_AN_END) as job:
        job.says("waiting for the store")  # the driver says it, although it is a worker that waits
        before = come_back(job, store, proxy)
        assert len(before) == 1

        job.wait_for(lambda: unfinished(store), "a checkpoint of the second shard")
        proxy.down = True
        before |= come_back(job, store, proxy)

        job.wait_for(
            lambda: len(commits(store)) == 2 and unfinished(store), "a checkpoint of the last shard"
        )
        before |= commits(store)
        server.stop(signal.SIGKILL)
        server.start()
        done = job.end()
    assert_no_failure(done, store)
    assert_nothing_lost(store, before, undisturbed)


def come_back(job: Job, store: S3Store, proxy: FaultyProxy) -> dict[str, bytes]:
    """Ends an outage after several cycles of retries. Returns the commits of before."""
    enough = proxy.injected["down"] + REFUSED
    job.wait_for(lambda: proxy.injected["down"] >= enough, f"{REFUSED} requests in vain")
    before = commits(store)
    proxy.down = False
    return before
