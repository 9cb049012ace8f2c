"""Drivers' signs of life: advice, so nothing that is wrong with them may stop anyone."""

import json
import socket
import time
from pathlib import Path

from cluster.heartbeat import ALIVE_S, Heartbeat
from pcworker.layout import SweepKeys
from pcworker.store import LocalStore


def test_a_driver_sees_the_others_and_not_itself(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    first, second = Heartbeat(store, "a"), Heartbeat(store, "a")
    first.beat()
    assert first.others() == []
    assert second.others() == [socket.gethostname()]
    assert Heartbeat(store, "b").others() == []


def test_a_driver_that_has_ended_is_not_seen(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    first = Heartbeat(store, "a")
    first.beat()
    first.end()
    assert Heartbeat(store, "a").others() == []


def test_a_driver_that_was_killed_is_soon_not_seen(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    sign = {"hostname": "far", "time": time.time() - 2 * ALIVE_S, "ended": False}
    store.put(SweepKeys("a").driver("killed"), json.dumps(sign).encode())
    assert Heartbeat(store, "a").others() == []


def test_what_cannot_be_read_is_nobody(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for k, data in enumerate((b"", b"{", b"[]", b'{"ended": false}', b'{"time": "now"}', b"\xff")):
        store.put(SweepKeys("a").driver(str(k)), data)
    assert Heartbeat(store, "a").others() == []


def test_a_store_in_trouble_does_not_stop_the_driver(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    heartbeat = Heartbeat(LocalStore(tmp_path / "file"), "a")
    heartbeat.beat()
    heartbeat.end()
