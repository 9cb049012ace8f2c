"""Tests of the choice of what starts next. It is a pure function, so any history can be tried."""

import random
from collections import Counter
from copy import deepcopy

import pytest
from builders import tiny

from cluster.driver.decide import (
    COMPANY,
    LIMITS,
    STREAK,
    Attempt,
    History,
    Start,
    is_quarantined,
    limits,
    next_start,
    suspects,
)
from cluster.driver.events import WorkerInfo
from cluster.driver.failures import FailureKind
from cluster.sweeps.plan import Shard
from pcworker.trials.trial import Trial

WIDTH = 13
SHARDS = tuple(
    Shard(name, tuple(Trial(tiny(), seed) for seed in range(WIDTH))) for name in ("a", "b", "c")
)
A, B, C = SHARDS


def worker(node: str, pid: int = 1) -> WorkerInfo:
    return WorkerInfo("host", pid, node, "cpu")


def failures(*of: tuple[str, FailureKind, int]) -> History:
    return History(
        Attempt(shard_id, worker("node"), kind)
        for shard_id, kind, times in of
        for _ in range(times)
    )


def start_next(done: set[str], running: set[str], history: History) -> Start | None:
    return next_start([s for s in SHARDS if s.shard_id not in done], running, history)


def test_shards_start_in_the_order_of_the_plan() -> None:
    assert start_next(set(), set(), History()) == Start(A, None)
    assert start_next(set(), {"a"}, History()) == Start(B, None)
    assert next_start(SHARDS[::-1], set(), History()) == Start(C, None)


def test_nothing_that_is_done_or_running_is_started() -> None:
    assert start_next({"a"}, {"b"}, History()) == Start(C, None)
    assert start_next({"a", "c"}, {"b"}, History()) is None
    assert start_next({"a", "b", "c"}, set(), History()) is None
    assert next_start((), set(), History()) is None


@pytest.mark.parametrize("kind", ["error", "lost"])
def test_a_shard_that_failed_goes_last_and_is_as_wide_as_before(kind: FailureKind) -> None:
    once = failures(("a", kind, 1))
    assert start_next(set(), set(), once) == Start(B, None)
    assert start_next({"b", "c"}, set(), once) == Start(A, None)
    mixed = failures(("a", kind, 2), ("b", kind, 2), ("c", kind, 1))
    assert start_next(set(), set(), mixed) == Start(C, None)
    assert start_next(set(), {"c"}, mixed) == Start(A, None)


@pytest.mark.parametrize("kind", limits(A))
def test_a_shard_is_quarantined_at_the_limit_of_a_kind_and_not_before(kind: FailureKind) -> None:
    almost, enough = (failures(("a", kind, limits(A)[kind] - less)) for less in (1, 0))
    assert not is_quarantined(A, almost)
    assert next_start([A], set(), almost) is not None
    assert is_quarantined(A, enough)
    assert next_start([A], set(), enough) is None
    assert not is_quarantined(B, enough)
    assert next_start([A, B], set(), enough) == Start(B, None)


def test_failures_of_different_kinds_do_not_add_up() -> None:
    mixed = failures(*(("a", kind, limit - 1) for kind, limit in limits(A).items()))
    assert not is_quarantined(A, mixed)


def test_a_lost_worker_is_forgiven_more_often_than_an_error() -> None:
    assert LIMITS["lost"] > LIMITS["error"] > 1


def test_every_time_memory_runs_out_the_width_is_halved_down_to_one() -> None:
    widths = []
    for times in range(limits(A)["memory"]):
        start = next_start([A], set(), failures(("a", "memory", times)))
        assert start is not None
        widths.append(start.max_width)
    assert widths == [None, 6, 3, 1, 1]  # the shard has 13 trials


def test_another_shards_memory_does_not_change_the_width() -> None:
    assert start_next({"b", "c"}, set(), failures(("b", "memory", 2))) == Start(A, None)


def test_deciding_changes_nothing_and_repeats_itself() -> None:
    done, running, failed = {"c"}, {"b"}, failures(("a", "memory", 1), ("b", "error", 1))
    before = (set(done), set(running), deepcopy(failed.failures))
    first = start_next(done, running, failed)
    assert start_next(done, running, failed) == first
    assert (done, running, failed.failures) == before


@pytest.mark.parametrize("history", range(40))
def test_any_history_ends_with_every_shard_done_or_quarantined(history: int) -> None:
    chance = random.Random(history)
    count, workers = chance.randint(1, 12), chance.randint(1, 5)
    success = chance.choice([0.0, 0.1, 0.5, 0.9])
    shards = [Shard(str(k), A.trials[: chance.randint(1, WIDTH)]) for k in range(count)]
    done: set[str] = set()
    running: list[Start] = []
    failed = History()
    starts = Counter[str]()
    while True:
        while len(running) < workers:
            at_work = {start.shard.shard_id for start in running}
            waiting = [shard for shard in shards if shard.shard_id not in done]
            start = next_start(waiting, at_work, failed)
            if start is None:
                break
            name = start.shard.shard_id
            assert name not in at_work
            assert name not in done
            assert not is_quarantined(start.shard, failed)
            assert start.max_width is None or 1 <= start.max_width <= len(start.shard.trials)
            starts[name] += 1
            running.append(start)
        if not running:
            break
        ended = running.pop(chance.randrange(len(running))).shard.shard_id
        where = worker(chance.choice("xyz"))
        if chance.random() < success:
            done.add(ended)
            failed.add(Attempt(ended, where, None))
        else:
            failed.add(Attempt(ended, where, chance.choice(list(limits(A)))))
    tries = Counter({shard: len(attempts) for shard, attempts in failed.failures.items()})
    for shard in shards:
        name = shard.shard_id
        assert (name in done) != is_quarantined(shard, failed)
        assert starts[name] == tries[name] + (name in done)


def on(node: str, *ends: tuple[str, FailureKind | None]) -> list[Attempt]:
    """Attempts on a node, each on a worker of its own."""
    return [Attempt(end[0], worker(node, pid), end[1]) for pid, end in enumerate(ends)]


BAD = on("bad", ("a", "error"), ("b", "error"), ("c", "store"))


def test_a_node_that_fails_everything_while_another_works_is_suspect() -> None:
    assert len(BAD) == STREAK
    assert suspects(History([*on("good", ("d", None)), *BAD])) == {"bad"}
    assert suspects(History([*BAD, *on("good", ("d", None))])) == {"bad"}
    assert suspects(History([*on("good", ("d", None)), *BAD[1:]])) == set()


def test_without_any_success_no_node_is_suspect() -> None:
    assert suspects(History([*BAD, *on("other", ("d", "error"))])) == set()


def test_one_shard_that_always_fails_makes_no_node_suspect() -> None:
    always = on("bad", *[("a", "error")] * STREAK)
    assert suspects(History([*on("good", ("d", None)), *always])) == set()


@pytest.mark.parametrize("kind", ["lost", "memory"])
def test_a_node_that_loses_workers_or_has_little_memory_is_not_suspect(kind: FailureKind) -> None:
    lost = on("bad", ("a", kind), ("b", kind), ("c", kind))
    assert suspects(History([*on("good", ("d", None)), *lost])) == set()


def test_a_node_that_succeeds_is_suspect_no_more() -> None:
    assert suspects(History([*on("good", ("d", None)), *BAD, *on("bad", ("a", None))])) == set()


def test_shards_that_fail_together_on_one_worker_are_one_failure_of_the_node() -> None:
    together = [Attempt(one.shard_id, worker("bad"), one.failure) for one in BAD]
    history = History([*on("good", ("d", None)), *together])
    assert suspects(history) == set()
    assert {shard: len(attempts) for shard, attempts in history.failures.items()} == dict.fromkeys(
        "abc", 1
    )
    for pid, shard_id in ((2, "a"), (3, "b")):
        history.add(Attempt(shard_id, worker("bad", pid), "error"))
    assert suspects(history) == {"bad"}


def test_a_shard_that_was_lost_again_and_again_is_tried_alone_and_after_all_others() -> None:
    lost = [Attempt("a", worker("node", pid), "lost") for pid in range(COMPANY)]
    assert next_start([A], set(), History(lost[1:])) == Start(A, None)
    assert next_start([A], set(), History(lost)) == Start(A, None, alone=True)
    others = [Attempt("b", worker("node", pid), "store") for pid in range(2 * COMPANY)]
    assert next_start([A, B], set(), History([*lost, *others])) == Start(B, None)


def test_a_shard_that_ran_out_of_memory_is_tried_alone() -> None:
    assert next_start([A], set(), failures(("a", "memory", 1))) == Start(A, 6, alone=True)


def test_who_is_lost_beside_a_shard_that_kills_its_workers_is_not_quarantined_with_it() -> None:
    """A worker trains all three at once, and a kills it before the others are further."""
    history, done, pid = History(), set[str](), 0
    while True:
        running: list[Start] = []
        waiting = [shard for shard in SHARDS if shard.shard_id not in done]
        while (start := next_start(waiting, [s.shard.shard_id for s in running], history)) and (
            not running or not (start.alone or running[0].alone)
        ):
            running.append(start)
        if not running:
            break
        names, pid = {start.shard.shard_id for start in running}, pid + 1
        for name in sorted(names):
            history.add(Attempt(name, worker("node", pid), "lost" if "a" in names else None))
        done |= names if "a" not in names else set()
    assert done == {"b", "c"}
    assert is_quarantined(A, history)
    assert pid == LIMITS["lost"] + 2


def test_what_failed_on_a_node_that_is_avoided_is_not_the_shards_fault() -> None:
    history = History(on("bad", *[("a", "error")] * LIMITS["error"]))
    assert is_quarantined(A, history)
    history.avoided.add("bad")
    assert not is_quarantined(A, history)
    assert next_start([A], set(), history) == Start(A, None)


def advancing(kind: FailureKind, times: int) -> list[Attempt]:
    """Attempts that end in a failure of this kind, each further on than the one before."""
    return [Attempt("a", worker("node"), kind, step / 100) for step in range(1, times + 1)]


def test_a_loss_after_some_progress_does_not_count() -> None:
    lost = advancing("lost", 3 * LIMITS["lost"])
    assert not is_quarantined(A, History(lost))
    stuck = [lost[-1]] * LIMITS["lost"]  # none gets further than the one before
    assert not is_quarantined(A, History([*lost, *stuck[1:]]))
    assert is_quarantined(A, History([*lost, *stuck]))


def test_an_error_counts_however_far_the_attempt_got() -> None:
    assert is_quarantined(A, History(advancing("error", LIMITS["error"])))


def test_another_shards_progress_is_not_this_ones() -> None:
    lost = [
        Attempt(shard_id, worker("node"), "lost", step / 100)
        for step in range(1, LIMITS["lost"] + 1)
        for shard_id in ("b", "a")  # b gets to every place first
    ]
    assert not is_quarantined(A, History(lost))


def test_a_quarantine_holds() -> None:
    history = History(on("bad", *[("a", "error")] * LIMITS["error"]))
    history.quarantined.add("a")
    history.avoided.add("bad")
    assert is_quarantined(A, history)
    assert next_start([A], set(), history) is None
