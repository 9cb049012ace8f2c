"""A pool without Ray: one worker in the driver's own process, which trains in its main thread.

A debugger can therefore stop in a trial, and a test of the driver needs no Ray.
"""

import socket
from bdb import BdbQuit
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from cluster.driver.decide import Start
from cluster.driver.events import Joined, WorkerInfo
from cluster.driver.failures import Failure, failure_of
from cluster.driver.pools.pool import Ended, Progress, Vacancy
from pcworker.worker import Doing, Halted, Place, Report, Work, Worker


@dataclass(frozen=True)
class _Task:
    """An attempt that was submitted."""

    attempt_id: str
    start: Start


class InProcessPool:
    """See `cluster.driver.pools.pool.Pool`. A submitted shard is trained inside `wait`."""

    def __init__(self, work: Work, data: Any) -> None:
        """`data` is given to the worker's engine."""
        self._work, self._data = work, data
        self._worker: Worker | None = None
        self._task: _Task | None = None
        self._answers = 0
        self._leaving = False
        """True if the worker was halted while it trains, so that it gets no more work."""

    @property
    def workers(self) -> list[WorkerInfo]:
        """The one worker, if there is one now."""
        return [joined.worker for joined in self._joined()]

    @property
    def vacancies(self) -> list[Vacancy]:
        """The one worker, if there is one and it has no shard."""
        return [] if self._task else [Vacancy(worker, empty=True) for worker in self.workers]

    def start(self, shards: int, beat: Callable[[], None] = lambda: None) -> list[Joined]:
        """Makes the worker. Raises InputError if it cannot do the work here."""
        self.resize(shards)
        return self._joined()

    def _joined(self) -> list[Joined]:
        if self._worker is None:
            return []
        who, trouble = self._worker.describe()
        return [Joined(WorkerInfo(**who), trouble)]

    def resize(self, shards: int) -> None:
        """Makes a worker if there is none and a shard is left."""
        if self._worker is None and shards:
            place = Place(hostname=socket.gethostname(), node_id="", gpus=0)
            self._worker = Worker(self._work, self._data, place)

    def submit(self, worker: WorkerInfo, attempt_id: str, start: Start) -> None:
        """Keeps the shard for the next `wait`."""
        self._task = _Task(attempt_id, start)

    def wait(self, meanwhile: Callable[[], None]) -> list[Ended]:
        """Trains the shard that was submitted, and calls `meanwhile` as often as the engine reports
        its progress. KeyboardInterrupt if the user quits the debugger."""
        if self._task is None or self._worker is None:
            return []
        task, worker, [info] = self._task, self._worker, self.workers
        result: Report | Halted | Failure
        raised: list[Exception] = []

        def look() -> None:
            try:
                meanwhile()
            except Exception as error:
                raised.append(error)
                raise

        try:
            result = _train(worker, task, look)
        except BdbQuit:
            raise KeyboardInterrupt from None
        except Exception as error:
            if error in raised:  # It is the driver's, and no failure of the shard.
                raise
            result = failure_of(error)
            # As on Ray, the next attempt gets a fresh worker: this one may be in a bad state.
            self._worker = None
        finally:
            self._task = None
        if self._leaving:
            self._worker, self._leaving = None, False
        return [Ended(task.attempt_id, info, result, _share(worker, task))]

    def progress(self) -> dict[str, Progress]:
        """Returns the progress of the shard that is trained. The worker itself asks for it, so each
        time is an answer."""
        if self._worker is None or self._task is None:
            return {}
        self._answers += 1
        share = _share(self._worker, self._task)
        return {self._task.attempt_id: Progress(share, answers=self._answers)}

    def give_up(self, attempt_id: str, trouble: str) -> None:
        """Ends nothing: a debugger may have stopped there for hours."""

    def halt(self, workers: Collection[WorkerInfo]) -> None:
        """Halts the one worker. While it trains, `meanwhile` is when this can be called."""
        if self._worker is None or not set(self.workers) & set(workers):
            return
        if self._task is None:
            self._worker = None
        else:
            self._worker.halt()
            self._leaving = True

    def avoid(self, suspects: Collection[str]) -> set[str]:
        """Avoids nothing, as there is no other node."""
        return set()


def _train(worker: Worker, task: _Task, meanwhile: Callable[[], None]) -> Report | Halted:
    shard = task.start.shard
    return worker.run(
        shard.shard_id, task.attempt_id, shard.trials, task.start.max_width, meanwhile
    )


def _share(worker: Worker, task: _Task) -> float:
    """The share of a task that its worker has done."""
    return worker.progress.get(task.attempt_id, Doing()).share
