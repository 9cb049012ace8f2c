"""Tests of the drivers' signs of life. They are only hints, so a bad one must not stop anyone."""

import json
import math
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from cluster.driver.events import AtWork, Running, WorkerInfo
from cluster.driver.record.heartbeat import Heartbeat
from cluster.driver.record.signs import ALIVE_S, EVERY_S, Driver, read_drivers
from pcworker.store.keys import SweepKeys
from pcworker.store.local import LocalStore

AT_WORK = {"share": 0.5, "hostname": "far"}
WORKERS = (WorkerInfo("one", 11, "n1", "cpu"), WorkerInfo("two", 22, "n2", "a gpu"))


def sign(**changes: Any) -> dict[str, Any]:
    """The sign of life of a living driver."""
    worker = {"hostname": "far", "pid": 1, "node_id": "n", "device": "cpu"}
    whole = {"hostname": "far", "time": time.time(), "ended": False, "started": 0.0}
    return {**whole, "workers": [worker], "running": {"0000-aaaaaaaa": AT_WORK}, **changes}


def put(store: LocalStore, driver: str, said: Any) -> None:
    store.put(SweepKeys("a").driver(driver), json.dumps(said).encode())


def hosts(store: LocalStore) -> list[str]:
    """The hosts of the drivers that a new driver sees."""
    return [driver.hostname for driver in Heartbeat(store, "a").others()]


def test_a_driver_sees_the_others_and_not_itself(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    first, second = Heartbeat(store, "a"), Heartbeat(store, "a")
    first.beat()
    assert first.others() == []
    assert [driver.hostname for driver in second.others()] == [socket.gethostname()]
    assert Heartbeat(store, "b").others() == []


def test_of_two_drivers_only_the_later_one_gives_way(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    first, second = Heartbeat(store, "a"), Heartbeat(store, "a")
    first.beat()
    second.beat()
    assert (len(first.others()), len(second.others())) == (0, 1)


def test_a_driver_that_has_ended_is_not_seen(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    first = Heartbeat(store, "a")
    first.beat()
    first.end()
    assert Heartbeat(store, "a").others() == []


@pytest.mark.parametrize("ago", [2 * ALIVE_S, -2 * ALIVE_S], ids=["killed", "clock-ahead"])
def test_a_driver_that_is_silent_is_not_seen(tmp_path: Path, ago: float) -> None:
    store = LocalStore(tmp_path)
    put(store, "alive", sign())
    assert hosts(store) == ["far"]
    put(store, "alive", sign(time=time.time() - ago))
    assert Heartbeat(store, "a").others() == []
    assert len(read_drivers(store, "a")) == 1


def test_what_is_at_work_survives_the_round_trip(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    heartbeat = Heartbeat(store, "a")
    running = {"0000-aaaaaaaa": AtWork(0.25, "one"), "0001-bbbbbbbb": AtWork(0.0, "two")}
    heartbeat.tell(Running(running, WORKERS))
    heartbeat.beat()
    (driver,) = read_drivers(store, "a")
    assert driver == Driver(
        hostname=socket.gethostname(),
        time=driver.time,
        ended=False,
        workers=WORKERS,
        running=running,
        started=driver.started,
    )
    assert abs(driver.time - driver.started) < ALIVE_S
    assert driver.alive(driver.time)
    heartbeat.end()
    (driver,) = read_drivers(store, "a")
    assert (driver.ended, driver.workers, driver.running) == (True, (), {})
    assert not driver.alive(driver.time)


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b'{"ended": false}',
        {"time": "now"},
        {"workers": None},
        {"workers": ["one"]},
        {"workers": [{"hostname": "far"}]},
        {"running": ["0000-aaaaaaaa"]},
        {"running": {"0000-aaaaaaaa": 0.5}},
        {"running": {"0000-aaaaaaaa": {"share": "half", "hostname": "far"}}},
        {"started": None},
        {"started": 1e300},
        {"started": -1.0},
        {"started": 10**400},
        {"time": math.nan},
        {"time": "1"},
        {"time": 1e12},
        {"hostname": 1},
        {"ended": 1},
        {"workers": [{"hostname": "far", "pid": 2**70, "node_id": "n", "device": "cpu"}]},
        {"running": {"0000-aaaaaaaa": {"share": 1e9, "hostname": "far"}}},
        {"running": {"0000-aaaaaaaa": {"share": math.nan, "hostname": "far"}}},
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
    ids=lambda said: str(said)[:60],
)
def test_what_cannot_be_read_is_nobody(tmp_path: Path, said: Any) -> None:
    store = LocalStore(tmp_path)
    data = said if isinstance(said, bytes) else json.dumps(sign(**said)).encode()
    store.put(SweepKeys("a").driver("broken"), data)
    put(store, "whole", sign(hostname="other"))
    assert hosts(store) == ["other"]


def test_fields_that_a_later_version_has_added_are_ignored(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    worker = {"hostname": "far", "pid": 1, "node_id": "n", "device": "cpu", "more": 1}
    running = {"0000-aaaaaaaa": {**AT_WORK, "more": 1}}
    put(store, "0e", sign(workers=[worker], running=running, more=1))
    [driver] = read_drivers(store, "a")
    assert driver.workers == (WorkerInfo("far", 1, "n", "cpu"),)
    assert driver.running == {"0000-aaaaaaaa": AtWork(**AT_WORK)}


@pytest.mark.parametrize("off", [-600.0, 600.0], ids=["behind", "ahead"])
def test_a_sign_that_changes_is_alive_whatever_its_clock_says(tmp_path: Path, off: float) -> None:
    """Oracle: by hand. The other driver's clock is ten minutes off ours."""
    store = LocalStore(tmp_path)
    put(store, "alive", sign(time=time.time() + off, started=1.0))
    put(store, "dead", sign(time=time.time() + off, started=2.0, hostname="dead"))
    ours = Heartbeat(store, "a")
    ours.beat()
    assert ours.others() == []
    put(store, "alive", sign(time=time.time() + off + EVERY_S, started=1.0))
    assert [driver.hostname for driver in ours.others()] == ["far"]


def test_a_store_in_trouble_does_not_stop_the_driver(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    heartbeat = Heartbeat(LocalStore(tmp_path / "file"), "a")
    heartbeat.beat()
    heartbeat.end()
