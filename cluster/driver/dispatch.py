"""Hands the shards of a sweep to workers, and obeys `cluster.driver.decide`.

`cluster.run` imports this module late, when it has set Ray's environment (`ray_environment`).
"""

import time
import traceback
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import RayError

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
from cluster.driver.failures import kind_of
from cluster.driver.pool import Hand, Pool
from cluster.nodes.errors import cause_of
from cluster.nodes.resources import Resources
from cluster.sweeps.plan import Shard
from pcworker.worker import Report, Work

POLL_S = 0.5


class Dispatcher:
    """The shards that wait, those that are at work, and what has become of attempts."""

    def __init__(self, work: Work, data: Any, resources: Resources) -> None:
        """`data` is given to every worker's engine. InputError if not enough workers fit."""
        self._pool = Pool(work, data, resources)
        self._running: dict[Any, tuple[Hand, Start, str]] = {}  # ref: by whom, what, attempt
        self._history = History()
        self._seen: dict[str, WorkerInfo] = {}  # by node: the worker there that ended last
        self._reached: dict[str, float] = {}  # by attempt: the share of it that was done last
        self._best: dict[str, float] = {}  # by shard: the same, of all attempts that have failed
        self._asked = 0.0

    def start(self, shards: int, beat: Callable[[], None] = lambda: None) -> list[Event]:
        """Starts the workers, no more than there are shards; returns which are ready and which
        cannot start. InputError if none can. `beat` is called now and then while it waits."""
        return self._pool.start(shards, beat)

    def run(
        self,
        shards: Sequence[Shard],
        is_committed: Callable[[str], bool],
        tell: Callable[[Event], None],
    ) -> int:
        """Runs until every shard has a commit or is quarantined; returns how many are that.

        shards        in the order to start them in
        is_committed  by shard id; asked before each start, for another driver may be at work
        tell          hears every event, and `Running` about twice a second
        """
        waiting = {shard.shard_id: shard for shard in shards}
        while True:
            self._pool.resize(len(waiting))
            for event in self._start_idle(waiting, is_committed):
                tell(event)
            if not self._running and not self._next(waiting):
                return len(waiting)
            self._pool.require_life()
            refs = [*self._running, *self._pool.starting]
            if not refs:  # the last worker is lost, and there is a pause before the next start
                time.sleep(POLL_S)
            ready, _ = ray.wait(refs, timeout=POLL_S) if refs else ([], [])
            for ref in ready:
                if ref in self._running:
                    for event in self._ended(ref, waiting):
                        tell(event)
                else:
                    tell(self._pool.settle(ref))
            if (now := self._progress()) is not None:
                tell(now)

    def _next(self, waiting: dict[str, Shard]) -> Start | None:
        running = {start.shard.shard_id for _, start, _ in self._running.values()}
        return next_start(waiting.values(), running, self._history)

    def _start_idle(
        self, waiting: dict[str, Shard], is_committed: Callable[[str], bool]
    ) -> list[Event]:
        events: list[Event] = []
        busy = {id(hand) for hand, _, _ in self._running.values()}
        idle = [hand for hand in self._pool.hands if id(hand) not in busy]
        while idle and (start := self._next(waiting)):
            shard_id = start.shard.shard_id
            if is_committed(shard_id):
                events.append(Finished(waiting.pop(shard_id), "elsewhere"))
                continue
            hand, attempt_id = idle.pop(), uuid.uuid4().hex[:12]
            trials = start.shard.trials
            ref = hand.actor.run.remote(shard_id, attempt_id, trials, start.max_width)
            self._running[ref] = (hand, start, attempt_id)
        return events

    def _ended(self, ref: Any, waiting: dict[str, Shard]) -> list[Event]:
        """What has become of an attempt, after what follows from it for its node."""
        hand, start, attempt_id = self._running.pop(ref)
        shard, node = start.shard, hand.info.node_id
        self._seen[node] = hand.info
        reached, best = self._reached.pop(attempt_id, 0.0), self._best.get(shard.shard_id, 0.0)
        self._best[shard.shard_id] = max(reached, best)
        try:
            report: Report = ray.get(ref)
        except RayError as error:
            # whatever went wrong may have left the worker's process in a bad state
            self._pool.dismiss(hand)
            kind = kind_of(error)
            self._history.add(Attempt(shard.shard_id, node, kind, advanced=reached > best))
            events = self._avoid_suspects()
            if quarantined := is_quarantined(shard, self._history):
                self._history.quarantined.add(shard.shard_id)
            failed = Failed(
                shard=shard,
                attempt_id=attempt_id,
                kind=kind,
                error=cause_of(error),
                traceback="".join(traceback.format_exception(error)),
                quarantined=quarantined,
                worker=hand.info,
            )
            return [failed, *events]
        self._history.add(Attempt(shard.shard_id, node, None))
        self._best.pop(shard.shard_id)
        finished = Finished(
            waiting.pop(shard.shard_id),
            report.outcome,
            report.wall_seconds,
            hand.info,
            report.resumed_from,
        )
        return [finished, *self._avoid_suspects()]

    def _avoid_suspects(self) -> list[Event]:
        """Gives no more work to nodes that fail everything, and names them."""
        fresh = self._pool.avoid(suspects(self._history))
        self._history.avoided |= fresh
        infos = [info for info in self._seen.values() if info.node_id in fresh]
        return [
            Trouble(
                f"{info.hostname} ({info.device}, node {info.node_id[:8]}) has failed its last "
                f"{STREAK} attempts while others succeed: it gets no more work"
            )
            for info in infos
        ]

    def _progress(self) -> Running | None:
        """Asks the workers at work, at most every POLL_S. A lost one does not answer; its run will
        say so."""
        if time.monotonic() - self._asked < POLL_S:
            return None
        asked = {
            hand.actor.progress.remote(): (hand, start.shard.shard_id, attempt)
            for hand, start, attempt in self._running.values()
        }
        ready: list[Any] = []
        if asked:
            ready, _ = ray.wait(list(asked), num_returns=len(asked), timeout=POLL_S)
        self._asked = time.monotonic()
        shards = {shard: AtWork(0.0, hand.info.hostname) for hand, shard, _ in asked.values()}
        for ref in ready:
            hand, shard_id, attempt_id = asked[ref]
            try:
                current, share = ray.get(ref)
            except RayError:
                continue
            if current == attempt_id:
                self._reached[attempt_id] = share
                shards[shard_id] = AtWork(share, hand.info.hostname)
        return Running(shards, tuple(hand.info for hand in self._pool.hands))
