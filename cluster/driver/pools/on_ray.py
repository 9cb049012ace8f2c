"""A pool of Ray actors: workers that are starting, workers that are ready, and their replacement.

Ray itself restarts no actor and retries no task. The driver replaces lost workers instead, so that
every attempt is visible and counted in one place. The pool grows when nodes join, and survives the
loss of nodes. A worker without room is an actor that Ray has not placed yet: Ray's autoscaler, if
there is one, sees what it needs and starts nodes. Workers that no shard is left for are ended, so
that the autoscaler takes their nodes away.
"""

import math
import time
import traceback
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import (
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    RuntimeEnvSetupError,
)

from cluster.driver.decide import Start
from cluster.driver.events import Joined, Trouble, Waiting, WorkerInfo
from cluster.driver.failures import Failure, FailureKind, kind_of
from cluster.driver.pools.hands import Hand, Try, to_end, vacancies_of
from cluster.driver.pools.kinds import WorkerKind, kind_of_workers
from cluster.driver.pools.pool import POLL_S, Ended, Progress, Vacancy
from cluster.driver.pools.shortage import STARVED_S, RoomSeen
from cluster.nodes.autoscaler import is_refused
from cluster.nodes.connect import draining, nodes
from cluster.nodes.errors import cause_of, environment_error
from cluster.nodes.resources import Growth, Resources, require_room, workers_that_fit
from pcworker.errors import InputError
from pcworker.worker import Halted, Report, Work

START_TIMEOUT_S = 120.0
"""The longest time from the start of a sweep to its first worker, if the cluster has room for it.
With an autoscaler the sweep goes on waiting, because new nodes may take longer."""
OTHERS_S = 10.0
"""The time from the first worker to the first shard. Other workers may join later."""
LOOK_S = 5.0
"""The time between two looks for nodes that have joined or gone."""
LONGEST_LOOK_S = 300.0
"""The same while workers fail to start: each failure doubles the time, up to this one."""
START_FAILURES = 3
"""A driver without any worker gives up when workers have failed to start so many times."""


class RayPool:
    """See `cluster.driver.pools.pool.Pool`. It has as many workers of each kind as the user asked
    for, or as fit, but no more than there are shards."""

    def __init__(self, work: Work, data: Any, needs: Resources, growth: Growth = "never") -> None:
        """`data` is given to every worker's engine. InputError if the workers will never fit.

        growth  how the cluster gets more nodes
        """
        require_room(nodes(), needs, growth)
        self._needs, self._growth = needs, growth
        self._data = ray.put(data)  # All workers share this one copy.
        self._kinds = [kind_of_workers(work, needs, slow=False)]
        if needs.beside is not None:
            on_cpu = replace(work, device="cpu", places=1)
            self._kinds.append(kind_of_workers(on_cpu, needs.beside, slow=True))
        self._starting: dict[Any, tuple[Any, WorkerKind]] = {}
        """By the reference to the worker's description: the actors that start."""
        self._hands: list[Hand] = []
        self._runs: dict[Any, tuple[Hand, Try]] = {}
        """By the reference to the attempt's report."""
        self._avoided = frozenset[str]()
        self._draining = frozenset[str]()
        """The nodes that were to be taken away soon, at the last look."""
        self._asked = -math.inf
        """The time, on the monotonic clock, when Ray was asked for them."""
        self._failed_starts, self._failed_since_look = 0, False
        self._looked = -math.inf
        self._last_ready = time.monotonic()
        self._news: list[Waiting | Trouble] = []
        """What `start` or `wait` is to return next."""

    @property
    def workers(self) -> list[WorkerInfo]:
        """The workers that are ready."""
        return [hand.info for hand in self._hands]

    @property
    def vacancies(self) -> list[Vacancy]:
        """The ready workers with a free place."""
        return vacancies_of(self._hands)

    def start(
        self, shards: int, beat: Callable[[], None] = lambda: None
    ) -> list[Joined | Waiting | Trouble]:
        """Starts the workers and waits for those that have room. Returns which are ready, which
        cannot start, and for how many there is no room.

        InputError if none can start, or none does within START_TIMEOUT_S although there is room and
        no autoscaler. CPU workers beside GPU workers do not count: they never take the place of a
        GPU that does not work.
        """
        if not shards:  # Another driver has just finished the last one.
            return []
        self.resize(shards)
        deadline = time.monotonic() + START_TIMEOUT_S
        without_room = sum(kind.shortage.missing for kind in self._kinds)
        troubles: list[Trouble] = []
        while len(self._starting) > without_room and (left := deadline - time.monotonic()) > 0:
            beat()
            ready, _ = ray.wait(list(self._starting), timeout=min(left, LOOK_S))
            events = [self._settle(ref) for ref in ready]
            troubles += [event for event in events if isinstance(event, Trouble)]
            if self._has_main():
                deadline = min(deadline, time.monotonic() + OTHERS_S)
        if not self._has_main():
            troubles += self._late(troubles)
        joined = [Joined(hand.info, hand.trouble) for hand in self._hands]
        return [*joined, *troubles, *self._told()]

    def _late(self, troubles: list[Trouble]) -> list[Trouble]:
        """Returns what to tell if no worker has started in time. InputError if none will."""
        if self._kinds[0].shortage.missing:  # Its nodes are still to come.
            return []
        if troubles:
            raise InputError(troubles[0].message)
        late = f"no worker of {self._needs} started within {START_TIMEOUT_S:.0f} s; other jobs may "
        if self._growth != "on demand":
            raise InputError(f"{late}hold the cluster: try smaller workers, or later")
        return [
            Trouble(f"{late}hold the cluster; the sweep waits for {STARVED_S / 60:.0f} minutes")
        ]

    def resize(self, shards: int) -> None:
        """Ends the idle workers, and those that start, that no shard is left for. Starts workers
        until there are as many as are wanted for so many shards.

        If there is no room for a worker now, Ray starts it as soon as there is.
        """
        to_start = shards - len(self._runs)
        for kind in self._kinds:
            self._end_surplus(kind, to_start)
        pause = min(LOOK_S * 2 ** min(self._failed_starts, 10), LONGEST_LOOK_S)
        if time.monotonic() - self._looked < pause:
            return
        self._looked, self._failed_since_look = time.monotonic(), False
        for kind in self._kinds:
            fit = workers_that_fit(nodes(self._avoided | self._draining), kind.needs)
            hands, starting = self._of(kind)
            staying = sum(hand.info.node_id not in self._draining for hand in hands)
            present, idle = staying + len(starting), sum(not hand.runs for hand in hands)
            free = (kind.needs.workers or max(1, fit)) - present
            more = max(0, min(free, to_start - idle - len(starting)))
            for _ in range(more):
                actor = self._new(kind)
                self._starting[actor.describe.remote()] = (actor, kind)
            self._see(kind, present + more, fit)

    def _end_surplus(self, kind: WorkerKind, to_start: int) -> None:
        """Ends the workers that are too many for the shards that are still to be started."""
        hands, starting = self._of(kind)
        idle = sum(not hand.runs for hand in hands)
        for hand in to_end(hands, to_start):
            self._dismiss(hand)
        for ref in starting[max(0, to_start - idle) :]:  # The last ones are the least far.
            actor, _ = self._starting.pop(ref)
            ray.kill(actor)

    def _of(self, kind: WorkerKind) -> tuple[list[Hand], list[Any]]:
        """The workers of a kind that are ready, and the references of those that start."""
        hands = [hand for hand in self._hands if hand.slow == kind.slow]
        return hands, [ref for ref, (_, of) in self._starting.items() if of is kind]

    def _see(self, kind: WorkerKind, wanted: int, room: int) -> None:
        """Notes whether there is room for all workers of a kind."""
        if self._growth != "never":
            refused = self._growth == "on demand" and wanted > room and is_refused(kind.needs)
            self._news += kind.shortage.see(RoomSeen(time.monotonic(), wanted, room, refused))

    def _told(self) -> list[Waiting | Trouble]:
        """Returns the news, once."""
        news, self._news = self._news, []
        return news

    def submit(self, worker: WorkerInfo, attempt_id: str, start: Start) -> None:
        """Gives a shard to a worker that has a vacancy."""
        hand = next(hand for hand in self._hands if hand.info == worker)
        run, shard = Try(attempt_id, start.alone), start.shard
        ref = hand.actor.run.remote(shard.shard_id, attempt_id, shard.trials, start.max_width)
        hand.runs.append(run)
        self._runs[ref] = (hand, run)

    def wait(self, meanwhile: Callable[[], None]) -> list[Ended | Joined | Waiting | Trouble]:
        """Waits for POLL_S seconds at most.

        InputError if there has been no worker for STARVED_S, if workers cannot start at all or will
        never have room, or if an attempt failed for a reason that no other attempt can avoid.
        """
        self._require_life()
        refs = [*self._runs, *self._starting]
        if not refs:  # The last worker is lost, and there is a pause before the next start.
            time.sleep(POLL_S)
        ready, _ = ray.wait(refs, timeout=POLL_S) if refs else ([], [])
        events = [self._ended(ref) if ref in self._runs else self._settle(ref) for ref in ready]
        meanwhile()
        return [*events, *self._leave_draining_nodes(), *self._told()]

    def progress(self) -> dict[str, Progress]:
        """Takes in the answers that have come, and asks each worker that has answered again."""
        self._hear_answers()
        for hand in self._hands:
            if hand.runs and hand.asked is None:
                hand.asked = hand.actor.progress.remote()
        return {run.attempt_id: run.progress for _, run in self._runs.values()}

    def _hear_answers(self) -> None:
        asked = {hand.asked: hand for hand in self._hands if hand.asked is not None}
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
        self._dismiss(hand)
        who = f"worker {hand.info.pid} on {hand.info.hostname}"
        return Ended(
            attempt_id, hand.info, Failure("hung", f"{who}: {trouble}", ""), run.progress.share
        )

    def halt(self, workers: Collection[WorkerInfo]) -> None:
        """See `cluster.driver.pools.pool.Pool.halt`. A worker without an attempt ends at once."""
        for hand in [hand for hand in self._hands if hand.info in workers]:
            hand.leaving = True
            if hand.runs:
                hand.actor.halt.remote()
            else:
                self._dismiss(hand)

    def avoid(self, suspects: Collection[str]) -> set[str]:
        """Dismisses the workers on these nodes, where another node has room for a worker."""
        fresh = set(suspects) - self._avoided
        others = nodes(self._avoided | self._draining | fresh)
        if not fresh or not workers_that_fit(others, self._needs):
            return set()
        self._avoided |= fresh
        for actor, _ in self._starting.values():  # One of them might be starting there.
            ray.kill(actor)
        self._starting = {}
        for hand in [hand for hand in self._hands if hand.info.node_id in fresh]:
            self._dismiss(hand)
        return fresh

    def _leave_draining_nodes(self) -> list[Trouble]:
        """Halts the workers on nodes that are to be taken away soon. It looks for such nodes every
        LOOK_S seconds, and Ray itself starts no more workers there."""
        if time.monotonic() - self._asked < LOOK_S:
            return []
        self._asked, seconds_left = time.monotonic(), draining()
        self._draining = frozenset(seconds_left)
        troubles = []
        for node_id, seconds in seconds_left.items():
            there = [hand for hand in self._hands if hand.info.node_id == node_id]
            fresh = [hand.info.hostname for hand in there if not hand.leaving]
            self.halt([hand.info for hand in there])
            if fresh:
                left = "" if math.isinf(seconds) else f", {max(0.0, seconds):.0f} s left"
                troubles.append(
                    Trouble(
                        f"node {node_id[:8]} ({fresh[0]}) is being drained{left}: its shards go "
                        "elsewhere, each with a checkpoint"
                    )
                )
        return troubles

    def _has_main(self) -> bool:
        """True if a worker is ready that is not a CPU worker beside GPU workers."""
        return any(not hand.slow for hand in self._hands)

    def _new(self, kind: WorkerKind) -> Any:
        elsewhere = {"ray.io/node-id": f"!in({', '.join(sorted(self._avoided))})"}
        options = {"label_selector": elsewhere} if self._avoided else {}
        return kind.actor.options(**options).remote(kind.work, self._data)

    def _dismiss(self, hand: Hand) -> None:
        """Ends a worker, and all that runs on it. `resize` starts another one soon."""
        ray.kill(hand.actor)
        self._hands = [other for other in self._hands if other is not hand]
        self._looked = -math.inf

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
            self._dismiss(hand)
        return Ended(run.attempt_id, hand.info, result, run.progress.share)

    def _settle(self, ref: Any) -> Joined | Trouble:
        """Takes in a worker that has started, or has failed to.

        InputError if the workers' environment cannot be set up, or if workers fail to start again
        and again and there is no other worker.
        """
        actor, kind = self._starting.pop(ref)
        try:
            who, trouble = ray.get(ref)
            hand = Hand(actor, WorkerInfo(**who), trouble, kind.slow)
        except RuntimeEnvSetupError as error:
            raise environment_error(error) from error
        except RayError as error:
            ray.kill(actor)
            return self._failed_to_start(error)
        self._failed_starts = 0
        self._hands.append(hand)
        return Joined(hand.info, hand.trouble)

    def _failed_to_start(self, error: RayError) -> Trouble:
        if not self._failed_since_look:  # Workers that go with their node are one failure.
            self._failed_starts += 1
        self._failed_since_look = True
        message = f"a worker cannot start: {cause_of(error)}"
        its_own = isinstance(error, RayActorError) and error.actor_init_failed
        others = self._hands or self._starting
        if its_own and not others and self._failed_starts >= START_FAILURES:
            raise InputError(message) from error
        return Trouble(message)

    def _require_life(self) -> None:
        """InputError if there has been no worker for too long, or will be none."""
        if self._hands:
            self._last_ready = time.monotonic()
        else:
            self._kinds[0].shortage.require_hope(time.monotonic(), self._last_ready)


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
