"""Tests of what is taken for a hang, and of what is not: it is a pure function of what is seen."""

from collections.abc import Iterable

import pytest

from cluster.driver.hangs import LONGEST_STEP_S, TIMES_ITS_ESTIMATE, Watch
from cluster.driver.pools.pool import Progress

PATIENCE_S = 100.0
COST_S = 20.0
STEP_S = 1.0

Seen = tuple[Progress, bool]
"""The progress of the one attempt, and whether the store answers the driver."""


def hangs_at(
    seen: Iterable[Seen], *, cost: float = COST_S, step: float = STEP_S
) -> list[tuple[int, str]]:
    """Looks once every `step` seconds. Returns the numbers of the looks at which the attempt is
    taken to hang, each with what is said of it."""
    watch = Watch({"shard": cost}, PATIENCE_S)
    found = []
    for number, (progress, store_answers) in enumerate(seen):
        looked = watch.look(
            number * step, {"one": "shard"}, {"one": progress}, store_answers=store_answers
        )
        found += [(number, trouble) for attempt, trouble in looked if attempt == "one"]
    return found


def still(looks: int, *, storing: bool = False, store_answers: bool = True) -> list[Seen]:
    """A worker that answers, and whose attempt makes no progress."""
    return [(Progress(0.25, storing, answers=n), store_answers) for n in range(looks)]


def test_who_answers_and_makes_progress_never_hangs() -> None:
    seen = [(Progress(n / 1000, answers=n), True) for n in range(1000)]
    assert hangs_at(seen) == []


def test_a_worker_that_does_not_answer_hangs_after_half_the_patience() -> None:
    found = hangs_at([(Progress(0.25, answers=3), True)] * 1000)
    assert found[0] == (51, "its worker has not answered for 51 s")


def test_an_attempt_without_progress_hangs_when_the_patience_is_over() -> None:
    number, trouble = hangs_at(still(1000))[0]
    assert number == PATIENCE_S + 1
    assert trouble == (
        "no progress for 101 s in training, after 25 % of its work; its shard is estimated to "
        "take 20 s"
    )


def test_a_long_shard_has_three_times_its_estimate() -> None:
    number, _ = hangs_at(still(1000), cost=200.0)[0]
    assert number == 200 * TIMES_ITS_ESTIMATE + 1


def test_an_attempt_at_the_store_does_not_hang_while_the_driver_waits_for_the_store_too() -> None:
    assert hangs_at(still(1000, storing=True, store_answers=False)) == []
    number, trouble = hangs_at(still(1000, storing=True))[0]
    assert number == PATIENCE_S + 1
    assert "no progress for 101 s at the store" in trouble
    # An attempt in training has no such excuse.
    assert hangs_at(still(1000, store_answers=False))


@pytest.mark.parametrize("moved", [Progress(0.5), Progress(0.25, storing=True)])
def test_progress_starts_the_time_anew(moved: Progress) -> None:
    first = still(int(PATIENCE_S))
    then = [(Progress(moved.share, moved.storing, answers=100 + n), True) for n in range(1000)]
    number, _ = hangs_at([*first, *then])[0]
    assert number == 2 * PATIENCE_S + 1


def test_while_the_driver_itself_was_stopped_nobody_has_hung() -> None:
    """A laptop that sleeps for an hour, or a driver in a debugger."""
    watch = Watch({"shard": COST_S}, PATIENCE_S)
    for number in range(9):
        assert not list(
            watch.look(number * 3600.0, {"one": "shard"}, {"one": Progress()}, store_answers=True)
        )
    assert 9 * LONGEST_STEP_S < PATIENCE_S / 2


def test_an_attempt_that_has_ended_is_forgotten() -> None:
    watch = Watch({}, PATIENCE_S)
    assert not list(watch.look(0.0, {"one": "s"}, {"one": Progress()}, store_answers=True))
    for number in range(1, 1000):
        # The pool may still know of it for a moment.
        assert not list(watch.look(number, {}, {"one": Progress()}, store_answers=True))
