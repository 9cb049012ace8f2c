"""Hands the shards of a sweep to the workers of a pool, and obeys `cluster.driver.decide`."""

import math
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from cluster.driver.decide import (
    STREAK,
    Attempt,
    History,
    Start,
    is_quarantined,
    next_start,
    suspects,
)
from cluster.driver.events import AtWork, Event, Failed, Finished, Running, Trouble, WorkerInfo
from cluster.driver.failures import Failure
from cluster.driver.pools.pool import POLL_S, Ended, Pool, Vacancy
from cluster.sweeps.plan import Shard
from pcworker.worker import Report


@dataclass
class _RunningAttempt:
    """An attempt that runs."""

    start: Start
    worker: WorkerInfo


class Dispatcher:
    """The shards that wait, the attempts that run, and the history of those that have ended."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._waiting: dict[str, Shard] = {}
        """By shard id: the shards without a commit, those at work included."""
        self._running: dict[str, _RunningAttempt] = {}
        """By attempt id."""
        self._history = History()
        self._asked = -math.inf
        """The time, on the monotonic clock, when the workers were asked for their progress."""
        self._longest_first = True

    def run(
        self,
        shards: Sequence[Shard],
        committed: Callable[[str], Collection[str]],
        tell: Callable[[Event], None],
        longest_first: bool = True,
    ) -> int:
        """Runs until every shard has a commit or is quarantined, and returns the number of those
        that are quarantined.

        shards         in the order in which they are to start
        committed      is asked before each start, because another driver may be at work: it
                       returns nothing if the shard of this id has no commit, and otherwise the ids
                       of all shards that have one
        tell           hears every event, and `Running` about twice a second
        longest_first  True if `shards` begins with the longest ones, otherwise with the shortest
        """
        self._waiting = {shard.shard_id: shard for shard in shards}
        self._longest_first = longest_first
        while True:
            self._pool.resize(len(self._waiting.keys() - self._history.quarantined))
            for elsewhere in self._start_idle(committed):
                tell(elsewhere)
                self._tell_progress(tell)
            if not self._running and not self._next():
                return len(self._waiting)
            for event in self._pool.wait(lambda: self._tell_progress(tell)):
                for told in self._ended(event) if isinstance(event, Ended) else [event]:
                    tell(told)

    def _next(self, slow: bool = False) -> Start | None:
        """The next shard to start; on a slow worker one of the shortest, because a long one would
        hold up the end of the sweep there."""
        running = {attempt.start.shard.shard_id for attempt in self._running.values()}
        from_the_end = slow and self._longest_first
        waiting = reversed(self._waiting.values()) if from_the_end else self._waiting.values()
        return next_start(waiting, running, self._history)

    def _match(self) -> tuple[Vacancy, Start] | None:
        """The next shard to start and the worker for it, or None if nothing can be started now."""
        vacancies = self._pool.vacancies
        starts = {slow: self._next(slow) for slow in {vacancy.slow for vacancy in vacancies}}
        for vacancy in vacancies:
            start = starts[vacancy.slow]
            if start and (vacancy.empty or not start.alone):
                return vacancy, start
        return None

    def _start_idle(self, committed: Callable[[str], Collection[str]]) -> Iterator[Finished]:
        """Fills every free place. Yields the shards that another driver has committed."""
        while match := self._match():
            vacancy, start = match
            if there := committed(start.shard.shard_id):
                running = {attempt.start.shard.shard_id for attempt in self._running.values()}
                for shard_id in [each for each in self._waiting if each in there]:
                    if shard_id not in running:
                        yield Finished(self._waiting.pop(shard_id), "elsewhere")
                continue
            attempt_id = uuid.uuid4().hex[:12]
            self._pool.submit(vacancy.worker, attempt_id, start)
            self._running[attempt_id] = _RunningAttempt(start, vacancy.worker)

    def _ended(self, ended: Ended) -> list[Event]:
        """Takes in an attempt that has ended, and returns what there is to tell of it."""
        attempt = self._running.pop(ended.attempt_id)
        if isinstance(ended.result, Failure):
            return self._failed(attempt, ended, ended.result)
        return self._finished(attempt, ended, ended.result)

    def _finished(self, attempt: _RunningAttempt, ended: Ended, report: Report) -> list[Event]:
        shard_id = attempt.start.shard.shard_id
        self._history.add(Attempt(shard_id, ended.worker, None))
        finished = Finished(
            self._waiting.pop(shard_id),
            report.outcome,
            report.wall_seconds,
            ended.worker,
            report.resumed_from,
        )
        return [finished, *self._avoid_suspects()]

    def _failed(self, attempt: _RunningAttempt, ended: Ended, failure: Failure) -> list[Event]:
        shard = attempt.start.shard
        self._history.add(Attempt(shard.shard_id, ended.worker, failure.kind, ended.share))
        # This comes first, because failures on a node that is avoided do not count.
        troubles = self._avoid_suspects()
        quarantined = is_quarantined(shard, self._history)
        if quarantined:
            self._history.quarantined.add(shard.shard_id)
        failed = Failed(
            shard=shard,
            attempt_id=ended.attempt_id,
            kind=failure.kind,
            error=failure.error,
            traceback=failure.traceback,
            quarantined=quarantined,
            worker=ended.worker,
        )
        return [failed, *troubles]

    def _avoid_suspects(self) -> list[Trouble]:
        """Gives no more work to nodes that fail everything, and names them."""
        fresh = self._pool.avoid(suspects(self._history))
        self._history.avoided |= fresh
        workers = [self._history.last[node][-1].worker for node in sorted(fresh)]
        return [
            Trouble(
                f"{worker.hostname} ({worker.device}, node {worker.node_id[:8]}) has failed its "
                f"last {STREAK} attempts while others succeed: it gets no more work"
            )
            for worker in workers
        ]

    def _tell_progress(self, tell: Callable[[Event], None]) -> None:
        """Asks the workers for their progress and tells it, at most every POLL_S seconds."""
        if time.monotonic() - self._asked < POLL_S:
            return
        shares = self._pool.shares()
        self._asked = time.monotonic()
        at_work = {
            attempt.start.shard.shard_id: AtWork(shares.get(name, 0.0), attempt.worker.hostname)
            for name, attempt in self._running.items()
        }
        tell(Running(at_work, tuple(self._pool.workers)))
