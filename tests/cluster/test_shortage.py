"""Tests of workers without room, and of workers without work, as values: nothing is started."""

import pytest

from cluster.driver.events import Trouble, Waiting, WorkerInfo
from cluster.driver.pools.hands import Hand, Try, to_end
from cluster.driver.pools.shortage import REFUSED_S, STARVED_S, RoomSeen, Shortage
from pcworker.errors import InputError


def test_workers_without_room_are_told_of_once_and_again_after_there_was_room() -> None:
    shortage = Shortage("2 CPU cores")
    seen = [shortage.see(RoomSeen(time, 8, room)) for time, room in enumerate([2, 2, 5, 8, 7])]
    waiting = [Waiting(6, "2 CPU cores", 2, STARVED_S), Waiting(1, "2 CPU cores", 7, STARVED_S)]
    assert seen == [[waiting[0]], [], [], [], [waiting[1]]]
    assert shortage.missing == 1


def test_with_room_for_all_there_is_nothing_to_tell() -> None:
    shortage = Shortage("2 CPU cores")
    assert shortage.see(RoomSeen(0.0, 2, 8)) == []
    assert shortage.missing == 0


def test_a_refusal_of_the_autoscaler_is_believed_if_it_lasts() -> None:
    shortage = Shortage("9 CPU cores")
    for time in (0.0, REFUSED_S / 2):  # a node that is going may stand in the way
        shortage.see(RoomSeen(time, 1, 0, refused=True))
        shortage.require_hope(time, last_ready=0.0)
    shortage.see(RoomSeen(REFUSED_S * 0.75, 1, 0, refused=False))
    shortage.see(RoomSeen(REFUSED_S, 1, 0, refused=True))
    shortage.require_hope(REFUSED_S, last_ready=0.0)
    with pytest.raises(InputError, match=r"1 worker of 9 CPU cores cannot fit: Ray's auto"):
        shortage.require_hope(2 * REFUSED_S, last_ready=0.0)


def test_a_refusal_is_no_reason_to_give_up_where_others_use_the_room() -> None:
    shortage = Shortage("1 CPU core")
    for time in (0.0, REFUSED_S):
        shortage.see(RoomSeen(time, 4, 3, refused=True))
    shortage.require_hope(REFUSED_S, last_ready=0.0)


def test_workers_that_the_autoscaler_refuses_beside_others_are_told_of_once() -> None:
    shortage = Shortage("1 CPU core")
    seen = [shortage.see(RoomSeen(n * REFUSED_S, 4, 3, refused=True)) for n in range(4)]
    [[waiting], [trouble], [], []] = seen
    assert isinstance(waiting, Waiting)
    assert isinstance(trouble, Trouble)
    assert (
        "can start no node for such a worker; the sweep goes on with those that fit"
        in trouble.message
    )


def test_the_driver_gives_up_when_there_was_no_worker_for_long() -> None:
    shortage = Shortage("1 CPU core")
    shortage.see(RoomSeen(0.0, 1, 0))
    shortage.require_hope(STARVED_S, last_ready=0.0)
    with pytest.raises(InputError, match=r"for 30 minutes .* room for a worker of 1 CPU core"):
        shortage.require_hope(STARVED_S + 1.0, last_ready=0.0)


def hand(node: str, *, busy: bool = False) -> Hand:
    runs = [Try("attempt", alone=False)] if busy else []
    return Hand(None, WorkerInfo("host", 1, node, "cpu"), None, runs=runs)


def test_idle_workers_that_no_shard_is_left_for_are_ended_where_a_node_gets_free() -> None:
    busy, beside, apart = hand("a", busy=True), hand("a"), hand("b")
    hands = [busy, apart, beside]
    assert to_end(hands, 2) == []
    assert to_end(hands, 1) == [apart]
    assert to_end(hands, 0) == [beside, apart]
    assert to_end(hands, -1) == [beside, apart]
