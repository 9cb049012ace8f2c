"""The workers of a driver: those that are starting, those that are ready, and their replacement.

Actors have no restarts and no retries of Ray's own: the driver replaces them, so that every attempt
is visible and counted in one place. The pool grows when nodes join, and outlives those that go.
"""

import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RuntimeEnvSetupError

from cluster.driver.events import Event, Joined, Trouble, WorkerInfo
from cluster.nodes.connect import nodes
from cluster.nodes.errors import cause_of, environment_error
from cluster.nodes.resources import Resources, require_room, workers_that_fit
from pcworker.actor import WorkerActor
from pcworker.errors import InputError
from pcworker.worker import Work

START_TIMEOUT_S = 120.0
"""From the start of a sweep to its first worker."""
OTHERS_S = 10.0
"""From the first worker to the first shard: the others may join later."""
LOOK_S = 5.0
"""Between two looks for nodes that have joined or gone."""
LONGEST_LOOK_S = 300.0
"""The same, while workers fail to start: every failure doubles the pause."""
STARVED_S = 1800.0
"""Without any worker for so long, the driver gives up; what is committed is kept."""
START_FAILURES = 3
"""So many times workers fail to start, and none does, before a driver without any gives up."""


@dataclass(frozen=True)
class Hand:
    """A worker that is ready."""

    actor: Any
    info: WorkerInfo


class Pool:
    """As many workers as were asked for, or as fit, but no more than there are shards."""

    def __init__(self, work: Work, data: Any, needs: Resources) -> None:
        """`data` is given to every worker's engine. InputError if not enough workers fit."""
        require_room(nodes(), needs)
        self._work, self._needs = work, needs
        self._data = ray.put(data)  # once for all workers
        options: dict[str, Any] = {"max_restarts": 0, "max_task_retries": 0}
        options["concurrency_groups"] = {"control": 1}
        options |= {"num_cpus": needs.cpus, "num_gpus": needs.gpus}
        if work.environment:  # a runtime environment, even an empty one, costs Ray time
            options["runtime_env"] = {"env_vars": dict(work.environment)}
        self._class: Any = ray.remote(**options)(WorkerActor)
        self._starting: dict[Any, Any] = {}  # ref of its description: actor
        self._hands: list[Hand] = []
        self._avoided = frozenset[str]()
        self._failed_starts, self._failed_since_look = 0, False
        self._looked = -math.inf
        self._last_ready = time.monotonic()

    @property
    def starting(self) -> list[Any]:
        """Refs that are ready when a worker is; `settle` takes them."""
        return list(self._starting)

    @property
    def hands(self) -> list[Hand]:
        """The workers that are ready."""
        return self._hands

    def start(self, shards: int, beat: Callable[[], None]) -> list[Event]:
        """Starts the workers and waits for them; returns which are ready and which cannot start.
        `beat` is called now and then.

        InputError if none can start, or none does within START_TIMEOUT_S.
        """
        if not shards:  # another driver has just done the last one
            return []
        self.resize(shards)
        deadline = time.monotonic() + START_TIMEOUT_S
        troubles: list[str] = []
        while self._starting and (left := deadline - time.monotonic()) > 0:
            beat()
            ready, _ = ray.wait(self.starting, timeout=min(left, LOOK_S))
            events = [self.settle(ref) for ref in ready]
            troubles += [event.message for event in events if isinstance(event, Trouble)]
            if self._hands:
                deadline = min(deadline, time.monotonic() + OTHERS_S)
        if not self._hands:
            raise InputError(
                troubles[0]
                if troubles
                else f"no worker of {self._needs} started within {START_TIMEOUT_S:.0f} s; other "
                "jobs may hold the cluster: try smaller workers, or later"
            )
        return [*(Joined(hand.info) for hand in self._hands), *map(Trouble, troubles)]

    def resize(self, shards: int) -> None:
        """Starts workers until there are as many as are wanted for so many shards.

        A worker for which there is no room at the moment is started by Ray as soon as there is.
        """
        pause = min(LOOK_S * 2**self._failed_starts, LONGEST_LOOK_S)
        if time.monotonic() - self._looked < pause:
            return
        self._looked, self._failed_since_look = time.monotonic(), False
        fit = workers_that_fit(nodes(self._avoided), self._needs)
        wanted = min(self._needs.workers or max(1, fit), shards)
        for _ in range(wanted - len(self._hands) - len(self._starting)):
            actor = self._new()
            self._starting[actor.describe.remote()] = actor

    def settle(self, ref: Any) -> Event:
        """Takes in a worker that has started, or has failed to.

        InputError if the workers' environment cannot be set up, or one after the other fails to
        start and there is no other worker.
        """
        actor = self._starting.pop(ref)
        try:
            hand = Hand(actor, WorkerInfo(**ray.get(ref)))
        except RuntimeEnvSetupError as error:
            raise environment_error(error) from error
        except RayError as error:
            ray.kill(actor)
            return self._failed_to_start(error)
        self._failed_starts = 0
        self._hands.append(hand)
        return Joined(hand.info)

    def dismiss(self, hand: Hand) -> None:
        """Ends a worker; `resize` starts another one soon."""
        ray.kill(hand.actor)
        self._hands = [other for other in self._hands if other is not hand]
        self._looked = -math.inf

    def avoid(self, suspects: Collection[str]) -> set[str]:
        """Ends the workers on these nodes and starts no more there; returns the nodes that were
        not avoided before. Nothing happens where no other node has room for a worker."""
        fresh = set(suspects) - self._avoided
        if not fresh or not workers_that_fit(nodes(self._avoided | fresh), self._needs):
            return set()
        self._avoided |= fresh
        for actor in self._starting.values():  # one of them might be on its way there
            ray.kill(actor)
        self._starting = {}
        for hand in [hand for hand in self._hands if hand.info.node_id in fresh]:
            self.dismiss(hand)
        return fresh

    def require_life(self) -> None:
        """InputError if there has been no worker for STARVED_S."""
        if self._hands:
            self._last_ready = time.monotonic()
        elif time.monotonic() - self._last_ready > STARVED_S:
            raise InputError(
                f"for {STARVED_S / 60:.0f} minutes the cluster had no room for a worker of "
                f"{self._needs}; what is committed is kept: when there is room, the same command "
                "goes on from there"
            )

    def _new(self) -> Any:
        elsewhere = {"ray.io/node-id": f"!in({', '.join(sorted(self._avoided))})"}
        options = {"label_selector": elsewhere} if self._avoided else {}
        return self._class.options(**options).remote(self._work, self._data)

    def _failed_to_start(self, error: RayError) -> Event:
        if not self._failed_since_look:  # workers that go with their node are one failure
            self._failed_starts += 1
        self._failed_since_look = True
        message = f"a worker cannot start: {cause_of(error)}"
        its_own = isinstance(error, RayActorError) and error.actor_init_failed
        others = self._hands or self._starting
        if its_own and not others and self._failed_starts >= START_FAILURES:
            raise InputError(message) from error
        return Trouble(message)
