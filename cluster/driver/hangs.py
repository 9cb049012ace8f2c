"""Notices attempts that hang: their worker does not answer, or they make no progress.

The limits are generous, because whoever is only slow must not be taken for one that hangs.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cluster.driver.pools.pool import Progress

HANG_MINUTES = 10.0
"""The minutes without progress after which an attempt is taken to hang, if the user gives none. A
worker that answers nothing is taken to hang after half of that time."""
TIMES_ITS_ESTIMATE = 3.0
"""An attempt also has so many times the whole time that its shard is estimated to take."""
LONGEST_STEP_S = 5.0
"""A longer time between two looks counts as so many seconds: the driver itself was stopped then,
or its machine slept, and its workers are not to blame."""


@dataclass(frozen=True)
class _Seen:
    """The attempt as it was when it was looked at last."""

    progress: Progress
    silent_s: float = 0.0
    """The seconds since its worker's last answer."""
    still_s: float = 0.0
    """The seconds since its last progress."""


class Watch:
    """Looks at the attempts that run, again and again."""

    def __init__(self, costs: Mapping[str, float], patience_s: float) -> None:
        """
        costs       the estimated seconds of every shard, by shard id
        patience_s  the seconds without progress after which an attempt is taken to hang
        """
        self._costs, self._patience_s = costs, patience_s
        self._seen: dict[str, _Seen] = {}
        """By attempt id."""
        self._looked: float | None = None

    def look(
        self,
        now: float,
        running: Mapping[str, str],
        progress: Mapping[str, Progress],
        *,
        store_answers: bool,
    ) -> Iterator[tuple[str, str]]:
        """Yields the attempts that hang, each with what is wrong with it.

        now            the time on the monotonic clock
        running        the shard id of each attempt that runs, by attempt id
        progress       what is known of them
        store_answers  False: the store does not answer the driver itself, so the time that a worker
                       waits for the store does not count
        """
        step = 0.0 if self._looked is None else min(now - self._looked, LONGEST_STEP_S)
        self._looked = now
        self._seen = {
            attempt: self._after(self._seen.get(attempt), known, step, store_answers)
            for attempt, known in progress.items()
            if attempt in running
        }
        for attempt, seen in self._seen.items():
            if trouble := self._trouble(seen, self._costs.get(running[attempt], 0.0)):
                yield attempt, trouble

    @staticmethod
    def _after(before: _Seen | None, now: Progress, step: float, store_answers: bool) -> _Seen:
        """What is known of an attempt, `step` seconds after it was as in `before`."""
        if before is None:
            return _Seen(now)
        answered = now.answers != before.progress.answers
        moved = (now.share, now.storing) != (before.progress.share, before.progress.storing)
        counts = store_answers or not now.storing
        return _Seen(
            now,
            0.0 if answered else before.silent_s + step,
            0.0 if moved else before.still_s + step * counts,
        )

    def _trouble(self, seen: _Seen, cost: float) -> str | None:
        """Says what is wrong with an attempt; None if nothing is."""
        if seen.silent_s > self._patience_s / 2:
            return f"its worker has not answered for {seen.silent_s:.0f} s"
        if seen.still_s > max(self._patience_s, TIMES_ITS_ESTIMATE * cost):
            doing = "at the store" if seen.progress.storing else "in training"
            return (
                f"no progress for {seen.still_s:.0f} s {doing}, after "
                f"{100 * seen.progress.share:.0f} % of its work; its shard is estimated to take "
                f"{cost:.0f} s"
            )
        return None
