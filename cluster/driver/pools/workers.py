"""The workers of a pool on Ray: those that start, those that are ready, and their end.

Ray itself restarts no actor. The driver replaces lost workers instead, so that each is visible and
counted in one place. There are more workers when nodes join, and the loss of nodes is survived. A
worker without room is an actor that Ray has not placed yet: Ray's autoscaler, if there is one, sees
what it needs and starts nodes. Workers that no shard is left for are ended, so that the autoscaler
takes their nodes away.
"""

import math
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RuntimeEnvSetupError

from cluster.driver.events import Joined, Trouble, Waiting, WorkerInfo
from cluster.driver.pools.hands import Hand, to_end
from cluster.driver.pools.kinds import WorkerKind, kind_of_workers
from cluster.driver.pools.shortage import STARVED_S, RoomSeen
from cluster.nodes.autoscaler import is_refused
from cluster.nodes.connect import draining, nodes
from cluster.nodes.errors import cause_of, environment_error
from cluster.nodes.resources import Growth, Resources, require_room, workers_that_fit
from pcworker.errors import InputError
from pcworker.worker import Work

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


class RayWorkers:
    """The workers that start and those that are ready. There are as many of each kind as the user
    asked for, or as fit, but no more than there are shards.

    What runs on a worker stands in its `Hand`. `cluster.driver.pools.on_ray` writes it there, and
    here it is only read.
    """

    def __init__(self, work: Work, data: Any, needs: Resources, growth: Growth) -> None:
        """InputError if the workers will never fit."""
        require_room(nodes(), needs, growth)
        self._needs, self._growth = needs, growth
        self._data = ray.put(data)  # All workers share this one copy.
        self._kinds = [kind_of_workers(work, needs, slow=False)]
        if needs.beside is not None:
            on_cpu = replace(work, device="cpu", places=1)
            self._kinds.append(kind_of_workers(on_cpu, needs.beside, slow=True))
        self.starting: dict[Any, tuple[Any, WorkerKind]] = {}
        """By the reference to the worker's description: the actors that start."""
        self.hands: list[Hand] = []
        """The workers that are ready."""
        self._avoided = frozenset[str]()
        self._draining = frozenset[str]()
        """The nodes that were to be taken away soon, at the last look."""
        self._asked = -math.inf
        """The time, on the monotonic clock, when Ray was asked for them."""
        self._failed_starts, self._failed_since_look = 0, False
        self._looked = -math.inf
        self._last_ready = time.monotonic()
        self._news: list[Waiting | Trouble] = []
        """What `told` is to return next."""

    def start(self, shards: int, beat: Callable[[], None]) -> list[Joined | Waiting | Trouble]:
        """Starts workers for so many shards, and waits for those that have room. Returns which are
        ready, which cannot start, and for how many there is no room.

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
        while len(self.starting) > without_room and (left := deadline - time.monotonic()) > 0:
            beat()
            ready, _ = ray.wait(list(self.starting), timeout=min(left, LOOK_S))
            events = [self.settle(ref) for ref in ready]
            troubles += [event for event in events if isinstance(event, Trouble)]
            if self._has_main():
                deadline = min(deadline, time.monotonic() + OTHERS_S)
        if not self._has_main():
            troubles += self._late(troubles)
        joined = [Joined(hand.info, hand.trouble) for hand in self.hands]
        return [*joined, *troubles, *self.told()]

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

    def resize(self, to_start: int) -> None:
        """Ends the idle workers, and those that start, that no shard is left for. Starts workers
        until there are as many as are wanted.

        If there is no room for a worker now, Ray starts it as soon as there is.

        to_start  the number of shards that are still to be started
        """
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
                self.starting[actor.describe.remote()] = (actor, kind)
            self._see(kind, present + more, fit)

    def _end_surplus(self, kind: WorkerKind, to_start: int) -> None:
        """Ends the workers that are too many for the shards that are still to be started."""
        hands, starting = self._of(kind)
        idle = sum(not hand.runs for hand in hands)
        for hand in to_end(hands, to_start):
            self.dismiss(hand)
        for ref in starting[max(0, to_start - idle) :]:  # The last ones are the least far.
            actor, _ = self.starting.pop(ref)
            ray.kill(actor)

    def _of(self, kind: WorkerKind) -> tuple[list[Hand], list[Any]]:
        """The workers of a kind that are ready, and the references of those that start."""
        hands = [hand for hand in self.hands if hand.slow == kind.slow]
        return hands, [ref for ref, (_, of) in self.starting.items() if of is kind]

    def _see(self, kind: WorkerKind, wanted: int, room: int) -> None:
        """Notes whether there is room for all workers of a kind."""
        if self._growth != "never":
            refused = self._growth == "on demand" and wanted > room and is_refused(kind.needs)
            self._news += kind.shortage.see(RoomSeen(time.monotonic(), wanted, room, refused))

    def told(self) -> list[Waiting | Trouble]:
        """Returns the news, once."""
        news, self._news = self._news, []
        return news

    def _has_main(self) -> bool:
        """True if a worker is ready that is not a CPU worker beside GPU workers."""
        return any(not hand.slow for hand in self.hands)

    def _new(self, kind: WorkerKind) -> Any:
        elsewhere = {"ray.io/node-id": f"!in({', '.join(sorted(self._avoided))})"}
        options = {"label_selector": elsewhere} if self._avoided else {}
        return kind.actor.options(**options).remote(kind.work, self._data)

    def settle(self, ref: Any) -> Joined | Trouble:
        """Takes in a worker that has started, or has failed to.

        InputError if the workers' environment cannot be set up, or if workers fail to start again
        and again and there is no other worker.
        """
        actor, kind = self.starting.pop(ref)
        try:
            who, trouble = ray.get(ref)
            hand = Hand(actor, WorkerInfo(**who), trouble, kind.slow)
        except RuntimeEnvSetupError as error:
            raise environment_error(error) from error
        except RayError as error:
            ray.kill(actor)
            return self._failed_to_start(error)
        self._failed_starts = 0
        self.hands.append(hand)
        return Joined(hand.info, hand.trouble)

    def _failed_to_start(self, error: RayError) -> Trouble:
        if not self._failed_since_look:  # Workers that go with their node are one failure.
            self._failed_starts += 1
        self._failed_since_look = True
        message = f"a worker cannot start: {cause_of(error)}"
        its_own = isinstance(error, RayActorError) and error.actor_init_failed
        others = self.hands or self.starting
        if its_own and not others and self._failed_starts >= START_FAILURES:
            raise InputError(message) from error
        return Trouble(message)

    def require_life(self) -> None:
        """InputError if there has been no worker for too long, or will be none."""
        if self.hands:
            self._last_ready = time.monotonic()
        else:
            self._kinds[0].shortage.require_hope(time.monotonic(), self._last_ready)

    def dismiss(self, hand: Hand) -> None:
        """Ends a worker, and all that runs on it. `resize` starts another one soon."""
        ray.kill(hand.actor)
        self.hands = [other for other in self.hands if other is not hand]
        self._looked = -math.inf

    def halt(self, workers: Collection[WorkerInfo]) -> None:
        """See `cluster.driver.pools.pool.Pool.halt`. A worker without an attempt ends at once."""
        for hand in [hand for hand in self.hands if hand.info in workers]:
            hand.leaving = True
            if hand.runs:
                hand.actor.halt.remote()
            else:
                self.dismiss(hand)

    def avoid(self, suspects: Collection[str]) -> set[str]:
        """Dismisses the workers on these nodes, where another node has room for a worker."""
        fresh = set(suspects) - self._avoided
        others = nodes(self._avoided | self._draining | fresh)
        if not fresh or not workers_that_fit(others, self._needs):
            return set()
        self._avoided |= fresh
        for actor, _ in self.starting.values():  # One of them might be starting there.
            ray.kill(actor)
        self.starting = {}
        for hand in [hand for hand in self.hands if hand.info.node_id in fresh]:
            self.dismiss(hand)
        return fresh

    def leave_draining_nodes(self) -> list[Trouble]:
        """Halts the workers on nodes that are to be taken away soon. It looks for such nodes every
        LOOK_S seconds, and Ray itself starts no more workers there."""
        if time.monotonic() - self._asked < LOOK_S:
            return []
        self._asked, seconds_left = time.monotonic(), draining()
        self._draining = frozenset(seconds_left)
        troubles = []
        for node_id, seconds in seconds_left.items():
            there = [hand for hand in self.hands if hand.info.node_id == node_id]
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
