"""A pool of Ray actors: the attempts that run on its workers, from the submission to the end.

Ray itself retries no task. The driver makes the next attempt instead, so that every attempt is
visible and counted in one place. `cluster.driver.pools.workers` starts the workers and ends them.
"""

import time
import traceback
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayError, RayTaskError, RuntimeEnvSetupError

from cluster.driver.decide import Start
from cluster.driver.events import Joined, Trouble, Waiting, WorkerInfo
from cluster.driver.failures import Failure, FailureKind, kind_of
from cluster.driver.pools.hands import Hand, Try, vacancies_of
from cluster.driver.pools.pool import POLL_S, Ended, Progress, Vacancy
from cluster.driver.pools.workers import RayWorkers
from cluster.nodes.errors import cause_of, environment_error
from cluster.nodes.resources import Growth, Resources
from pcworker.worker import Halted, Report, Work


class RayPool:
    """See `cluster.driver.pools.pool.Pool`."""

    def __init__(self, work: Work, data: Any, needs: Resources, growth: Growth = "never") -> None:
        """`data` is given to every worker's engine. InputError if the workers will never fit.

        growth  how the cluster gets more nodes
        """
        self._workers = RayWorkers(work, data, needs, growth)
        self._runs: dict[Any, tuple[Hand, Try]] = {}
        """By the reference to the attempt's report."""

    @property
    def workers(self) -> list[WorkerInfo]:
        """The workers that are ready."""
        return [hand.info for hand in self._workers.hands]

    @property
    def vacancies(self) -> list[Vacancy]:
        """The ready workers with a free place."""
        return vacancies_of(self._workers.hands)

    def start(
        self, shards: int, beat: Callable[[], None] = lambda: None
    ) -> list[Joined | Waiting | Trouble]:
        """See `RayWorkers.start`."""
        return self._workers.start(shards, beat)

    def resize(self, shards: int) -> None:
        """See `RayWorkers.resize`."""
        self._workers.resize(shards - len(self._runs))

    def submit(self, worker: WorkerInfo, attempt_id: str, start: Start) -> None:
        """Gives a shard to a worker that has a vacancy."""
        hand = next(hand for hand in self._workers.hands if hand.info == worker)
        run, shard = Try(attempt_id, start.alone), start.shard
        ref = hand.actor.run.remote(shard.shard_id, attempt_id, shard.trials, start.max_width)
        hand.runs.append(run)
        self._runs[ref] = (hand, run)

    def wait(self, meanwhile: Callable[[], None]) -> list[Ended | Joined | Waiting | Trouble]:
        """Waits for POLL_S seconds at most.

        InputError if there has been no worker for STARVED_S, if workers cannot start at all or will
        never have room, or if an attempt failed for a reason that no other attempt can avoid.
        """
        self._workers.require_life()
        refs = [*self._runs, *self._workers.starting]
        if not refs:  # The last worker is lost, and there is a pause before the next start.
            time.sleep(POLL_S)
        ready, _ = ray.wait(refs, timeout=POLL_S) if refs else ([], [])
        events = [
            self._ended(ref) if ref in self._runs else self._workers.settle(ref) for ref in ready
        ]
        meanwhile()
        return [*events, *self._workers.leave_draining_nodes(), *self._workers.told()]

    def _ended(self, ref: Any) -> Ended:
        """Takes in an attempt that has ended, with a report or with an exception."""
        hand, run = self._runs.pop(ref)
        hand.runs.remove(run)
        result: Report | Halted | Failure
        try:
            result = ray.get(ref)
        except RayError as error:
            whole = "".join(traceback.format_exception(error))
            result = Failure(kind_of_ray(error), cause_of(error), whole)
            hand.leaving = True
        # A worker that is lost, perhaps with its GPU, does not bring its other attempts to an end.
        lost = isinstance(result, Failure) and result.kind == "lost"
        if lost or (hand.leaving and not hand.runs):
            self._workers.dismiss(hand)
        return Ended(run.attempt_id, hand.info, result, run.progress.share)

    def progress(self) -> dict[str, Progress]:
        """Takes in the answers that have come, and asks each worker that has answered again."""
        self._hear_answers()
        for hand in self._workers.hands:
            if hand.runs and hand.asked is None:
                hand.asked = hand.actor.progress.remote()
        return {run.attempt_id: run.progress for _, run in self._runs.values()}

    def _hear_answers(self) -> None:
        asked = {hand.asked: hand for hand in self._workers.hands if hand.asked is not None}
        ready: list[Any] = []
        if asked:
            ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=0)
        for ref in ready:
            hand = asked[ref]
            hand.asked, told = None, {}
            with suppress(RayError):  # The worker is lost, which its runs will say.
                told = ray.get(ref)
            for run in hand.runs:
                doing = told.get(run.attempt_id, run.progress)
                run.progress = Progress(doing.share, doing.storing, run.progress.answers + 1)

    def give_up(self, attempt_id: str, trouble: str) -> Ended | None:
        """Kills the worker of an attempt that hangs. What else runs on it is lost."""
        found = [
            (ref, *which) for ref, which in self._runs.items() if which[1].attempt_id == attempt_id
        ]
        if not found:
            return None
        [(ref, hand, run)] = found
        del self._runs[ref]
        hand.runs.remove(run)
        self._workers.dismiss(hand)
        who = f"worker {hand.info.pid} on {hand.info.hostname}"
        return Ended(
            attempt_id, hand.info, Failure("hung", f"{who}: {trouble}", ""), run.progress.share
        )

    def halt(self, workers: Collection[WorkerInfo]) -> None:
        """See `RayWorkers.halt`."""
        self._workers.halt(workers)

    def avoid(self, suspects: Collection[str]) -> set[str]:
        """See `RayWorkers.avoid`."""
        return self._workers.avoid(suspects)


def kind_of_ray(error: RayError) -> FailureKind:
    """Returns the kind of failure that an exception of Ray's is counted as. The exception of a
    shard itself, which Ray wraps, is classified by `cluster.driver.failures.kind_of`.

    Raises InputError if no other attempt could fare better, because the workers' environment cannot
    be set up, the store is full or the data is broken.
    """
    if isinstance(error, RuntimeEnvSetupError):
        raise environment_error(error) from error
    if isinstance(error, OutOfMemoryError):
        return "memory"
    if isinstance(error, RayTaskError):
        return kind_of(error.cause) if error.cause is not None else "error"
    return "lost"
