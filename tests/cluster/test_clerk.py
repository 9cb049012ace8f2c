"""Tests of the driver's clerk: nothing that the store does keeps the driver waiting."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from builders import commit
from dispatching import small_plan
from running import wait_until

from cluster.driver.events import Failed, Running, WorkerInfo
from cluster.driver.record import clerk as clerks
from cluster.driver.record.clerk import Clerk
from cluster.driver.record.heartbeat import Heartbeat
from cluster.driver.record.signs import read_drivers
from cluster.results.reading import list_failures, read_failures
from cluster.sweeps.stored import store_plan
from pcworker.errors import StoreError
from pcworker.store.local import LocalStore

PLAN = small_plan("784-16-10", "784-32-10")
WORKER = WorkerInfo("far", 11, "n1", "cpu")


class Stuck(LocalStore):
    """A store that takes every `put` and `list`, and answers none of them until it is let go."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.free, self.asked = threading.Event(), 0

    def put(self, key: str, data: bytes) -> None:
        self.asked += 1
        self.free.wait()
        super().put(key, data)

    def list(self, prefix: str) -> list[str]:
        self.asked += 1
        self.free.wait()
        return super().list(prefix)


@pytest.fixture
def stuck(tmp_path: Path) -> Iterator[Stuck]:
    store = Stuck(tmp_path)
    yield store
    store.free.set()


def failed(attempt: str, kind: str = "error") -> Failed:
    return Failed(PLAN.shards[0], attempt, kind, "no", "Traceback ...", False, WORKER)  # type: ignore[arg-type]


@contextmanager
def at_work(store: LocalStore) -> Iterator[Clerk]:
    with Clerk(store, store, PLAN) as clerk:
        yield clerk


def test_a_store_that_never_answers_keeps_nobody_waiting(
    stuck: Stuck, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test would not end, if one of these calls waited for the store."""
    monkeypatch.setattr(clerks, "FAREWELL_S", 0.1)
    with pytest.raises(KeyboardInterrupt), at_work(stuck) as clerk:
        clerk.hear(failed("one"))
        clerk.hear(Running({}, (WORKER,)))
        assert wait_until(lambda: stuck.asked >= 2)
        assert clerk.told() == []
        assert clerk.elsewhere == frozenset()
        raise KeyboardInterrupt
    assert not stuck.free.is_set()


def test_at_the_end_it_waits_until_every_record_is_written(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    with at_work(store) as clerk:
        for number in range(20):
            clerk.hear(failed(f"{number:012x}"))
    records, damaged = read_failures(store, list_failures(store, PLAN))
    assert damaged == []
    assert {record.attempt_id for record in records} == {f"{n:012x}" for n in range(20)}
    [driver] = read_drivers(store, PLAN.name)
    assert driver.ended


def test_a_store_in_trouble_that_does_not_pass_is_told(tmp_path: Path) -> None:
    class Broken(LocalStore):
        def check(self) -> None:
            raise StoreError("it can no longer be written")

    def told() -> bool:
        clerk.told()
        return False

    with (
        pytest.raises(StoreError, match="no longer be written"),
        at_work(Broken(tmp_path)) as clerk,
    ):
        clerk.hear(failed("0" * 12, "store"))
        wait_until(told)


def test_commits_are_listed_only_while_another_driver_is_alive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clerks, "OTHERS_EVERY_S", 0.0)
    monkeypatch.setattr(clerks, "COMPANY_S", 0.0)
    store = LocalStore(tmp_path)
    store_plan(store, PLAN, {})
    commit(store, PLAN, PLAN.shards[0])
    listed: list[str] = []

    class Noting(LocalStore):
        def list(self, prefix: str) -> list[str]:
            listed.append(prefix)
            return super().list(prefix)

    with at_work(Noting(tmp_path)) as clerk:
        assert wait_until(lambda: listed.count(PLAN.keys.drivers) > 3)
        assert PLAN.keys.shards not in listed
        other = Heartbeat(store, PLAN.name)
        other.beat()
        assert wait_until(lambda: clerk.elsewhere == {PLAN.shards[0].shard_id})
        other.end()
        assert wait_until(lambda: no_more(listed))


def no_more(listed: list[str]) -> bool:
    """True if a look for other drivers is not followed by a list of commits any more."""
    listed.clear()
    return (
        wait_until(lambda: listed.count(PLAN.keys.drivers) > 3) and PLAN.keys.shards not in listed
    )
