"""Hands the shards of a sweep to the workers of a pool, and obeys `cluster.driver.decide`."""

import math
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster.driver.budget import Ledger
from cluster.driver.decide import (
    STREAK,
    Attempt,
    History,
    Start,
    is_quarantined,
    next_start,
    suspects,
)
from cluster.driver.events import (
    AtWork,
    Event,
    Failed,
    Finished,
    Joined,
    Running,
    Suspended,
    Trouble,
    Waiting,
    WorkerInfo,
)
from cluster.driver.failures import Failure
from cluster.driver.hangs import Watch
from cluster.driver.pools.pool import POLL_S, Ended, Pool, Vacancy
from cluster.sweeps.plan import Shard
from pcworker.worker import Halted, Report

HALT_S = 300.0
"""The longest time in which halted workers save their checkpoints. Then the driver ends them."""


@dataclass(frozen=True)
class Ending:
    """How the dispatch of a sweep has ended."""

    quarantined: tuple[Shard, ...]
    """The shards that failed too often."""
    left: tuple[Shard, ...] = ()
    """The other shards without a commit: there are some if the dispatch was stopped."""
    stopped: str | None = None
    """Why it was stopped, in words."""


@dataclass
class _RunningAttempt:
    """An attempt that runs."""

    start: Start
    worker: WorkerInfo


class Record(Protocol):
    """What the dispatcher asks of the driver's record in the store. No answer waits for the store.
    `cluster.driver.record.clerk.Clerk` is one."""

    @property
    def elsewhere(self) -> Collection[str]:
        """The ids of the shards that other drivers have committed, as far as it is known."""

    @property
    def store_answers(self) -> bool:
        """False if the store does not answer this driver."""

    def told(self) -> Sequence[Trouble]:
        """Returns what there is to tell of the store since this was asked last. Raises what makes
        it useless to go on."""


class Dispatcher:
    """The shards that wait, the attempts that run, and the history of those that have ended."""

    def __init__(
        self, pool: Pool, watch: Watch, ledger: Ledger, tell: Callable[[Event], None]
    ) -> None:
        """
        watch   notices attempts that hang
        ledger  says when the user's budget is used up
        tell    hears every event, and `Running` about twice a second
        """
        self._pool, self._watch, self._ledger, self._tell = pool, watch, ledger, tell
        # Shards leave at the front, where an ordinary dict would keep their empty places.
        self._waiting: OrderedDict[str, Shard] = OrderedDict()
        """By shard id: the shards without a commit, those at work included."""
        self._running: dict[str, _RunningAttempt] = {}
        """By attempt id."""
        self._history = History()
        self._elsewhere: Collection[str] = ()
        """What was known of other drivers' commits at the last look."""
        self._asked = -math.inf
        """The time, on the monotonic clock, when the workers were asked for their progress."""
        self._longest_first = True
        self._stopped: str | None = None
        """Why no more shards are started; None if they are."""
        self._deadline = math.inf
        """The time, on the monotonic clock, when the driver waits no longer for halted workers."""

    def run(self, shards: Sequence[Shard], record: Record, longest_first: bool = True) -> Ending:
        """Runs until every shard has a commit or is quarantined, or the budget is used up.

        shards         in the order in which they are to start
        longest_first  True if `shards` begins with the longest ones, otherwise with the shortest
        """
        self._waiting = OrderedDict((shard.shard_id, shard) for shard in shards)
        self._longest_first = longest_first
        while True:
            self._skip(record.elsewhere)
            if self._stopped is None:
                self._pool.resize(self._hopeful())
                self._start_idle()
            if self._is_over():
                return self._ending()
            for event in self._pool.wait(lambda: self._look(record)):
                self._take_in(event)

    def _hopeful(self) -> int:
        """The number of shards that wait or run, but for those that are quarantined."""
        given_up = sum(shard in self._waiting for shard in self._history.quarantined)
        return len(self._waiting) - given_up

    def _is_over(self) -> bool:
        if self._stopped is None:
            return not self._running and not self._next()
        return not self._running or time.monotonic() > self._deadline

    def _ending(self) -> Ending:
        waiting, failed = self._waiting.values(), self._history.quarantined
        left = tuple(shard for shard in waiting if shard.shard_id not in failed)
        quarantined = tuple(shard for shard in waiting if shard.shard_id in failed)
        return Ending(quarantined, left, self._stopped if left else None)

    def _stop(self, why: str) -> None:
        """Starts no more shards, and halts those that run."""
        self._stopped, self._deadline = why, time.monotonic() + HALT_S
        self._tell(Trouble(f"{why}: shards at work are halted, each with a checkpoint"))
        self._pool.halt(self._pool.workers)

    def _next(self, slow: bool = False) -> Start | None:
        """The next shard to start; on a slow worker one of the shortest, because a long one would
        hold up the end of the sweep there."""
        from_the_end = slow and self._longest_first
        waiting = reversed(self._waiting.values()) if from_the_end else self._waiting.values()
        return next_start(waiting, self._at_work(), self._history)

    def _match(self) -> tuple[Vacancy, Start] | None:
        """The next shard to start and the worker for it, or None if nothing can be started now."""
        vacancies = self._pool.vacancies
        starts = {slow: self._next(slow) for slow in {vacancy.slow for vacancy in vacancies}}
        for vacancy in vacancies:
            start = starts[vacancy.slow]
            if start and (vacancy.empty or not start.alone):
                return vacancy, start
        return None

    def _at_work(self) -> set[str]:
        """The ids of the shards that run."""
        return {attempt.start.shard.shard_id for attempt in self._running.values()}

    def _skip(self, elsewhere: Collection[str]) -> None:
        """Leaves out the shards that other drivers have committed."""
        if elsewhere is self._elsewhere:
            return
        self._elsewhere = elsewhere
        at_work = self._at_work()
        for shard_id in [each for each in self._waiting if each in elsewhere]:
            if shard_id not in at_work:
                self._tell(Finished(self._waiting.pop(shard_id), "elsewhere"))

    def _start_idle(self) -> None:
        """Fills every free place."""
        while match := self._match():
            vacancy, start = match
            attempt_id = uuid.uuid4().hex[:12]
            self._pool.submit(vacancy.worker, attempt_id, start)
            self._running[attempt_id] = _RunningAttempt(start, vacancy.worker)

    def _take_in(self, event: Ended | Joined | Waiting | Trouble) -> None:
        for told in self._ended(event) if isinstance(event, Ended) else [event]:
            self._tell(told)

    def _ended(self, ended: Ended) -> list[Event]:
        """Takes in an attempt that has ended, and returns what there is to tell of it."""
        attempt = self._running.pop(ended.attempt_id)
        if not isinstance(ended.result, Report):
            self._elsewhere = ()  # Another driver may have committed the shard meanwhile.
        if isinstance(ended.result, Failure):
            return self._failed(attempt, ended, ended.result)
        if isinstance(ended.result, Halted):
            # The shard waits again, and nothing speaks against it or against its worker.
            return [Suspended(attempt.start.shard, ended.worker, ended.result.reached)]
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

    def _look(self, record: Record) -> None:
        """Asks the workers for their progress and tells it, at most every POLL_S seconds. Gives up
        the attempts that hang."""
        now = time.monotonic()
        if now - self._asked < POLL_S:
            return
        self._asked = now
        for trouble in record.told():
            self._tell(trouble)
        progress = self._pool.progress()
        at_work = {
            attempt.start.shard.shard_id: AtWork(
                progress[name].share if name in progress else 0.0, attempt.worker.hostname
            )
            for name, attempt in self._running.items()
        }
        self._tell(Running(at_work, tuple(self._pool.workers)))
        running = {name: attempt.start.shard.shard_id for name, attempt in self._running.items()}
        hanging = self._watch.look(now, running, progress, store_answers=record.store_answers)
        for attempt_id, what in list(hanging):
            if ended := self._pool.give_up(attempt_id, what):
                self._take_in(ended)
        why = self._ledger.look(now, self._pool.workers)
        if why is not None and self._stopped is None:
            self._stop(why)
