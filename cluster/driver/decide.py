"""Decides what to do next, by pure functions of what is planned, done, running and has failed."""

from collections import Counter, deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from cluster.driver.events import WorkerInfo
from cluster.driver.failures import FailureKind
from cluster.sweeps.plan import Shard

LIMITS: dict[FailureKind, int] = {"error": 3, "lost": 10, "store": 10, "hung": 3}
"""After so many failures of a kind a shard is quarantined. A lost worker or store is seldom the
shard's own fault, so many of these are forgiven, and a loss after some progress does not count at
all. The limit for "memory" depends on the shard: see `limits`."""

STREAK = 3
"""A node becomes a suspect when so many of its workers in a row have failed, at more than one
shard."""

COMPANY = 3
"""After so many losses that were not forgiven, or once it has hung, a shard is tried alone on a
worker. Whoever was lost or hung beside others need not be at fault, and must not be quarantined
with the one that is."""


@dataclass(frozen=True)
class Attempt:
    """One attempt that has ended."""

    shard_id: str
    worker: WorkerInfo
    failure: FailureKind | None
    """None means that the attempt ended in a commit."""
    reached: float = 0.0
    """The share from 0 to 1 of the shard's work that was done, as far as the driver knows."""


class History:
    """The attempts that have ended, as far as they matter for what is decided next."""

    def __init__(self, attempts: Iterable[Attempt] = ()) -> None:
        self.failures: dict[str, list[Attempt]] = {}
        """The attempts that have failed, by shard id."""
        self.last: dict[str, deque[Attempt]] = {}
        """By node id: the node's last attempts, at most STREAK of them."""
        self.some_succeeded = False
        self.quarantined: set[str] = set()
        """The shards that have been quarantined. A quarantine is never lifted."""
        self.avoided: set[str] = set()
        """The nodes that get no more work. A failure there says nothing about the shard."""
        for attempt in attempts:
            self.add(attempt)

    def add(self, attempt: Attempt) -> None:
        """Remembers an attempt that has just ended."""
        last = self.last.setdefault(attempt.worker.node_id, deque(maxlen=STREAK))
        if attempt.failure is None:
            self.some_succeeded = True
        else:
            self.failures.setdefault(attempt.shard_id, []).append(attempt)
        # What fails one attempt of a worker may fail all that run beside it. That counts once.
        if not any(
            attempt.failure and one.failure and one.worker == attempt.worker for one in last
        ):
            last.append(attempt)


@dataclass(frozen=True)
class Start:
    """The decision to start a shard."""

    shard: Shard
    max_width: int | None
    """The most trials in one stack. None means that all trials are in one stack."""
    alone: bool = False
    """True if nothing else may run on its worker at the same time."""


def limits(shard: Shard) -> dict[FailureKind, int]:
    """Returns the number of failures of each kind after which a shard is quarantined.

    Each time a shard runs out of memory, the width of its stacks is halved, down to one trial. One
    trial alone is tried twice.
    """
    return {**LIMITS, "memory": len(shard.trials).bit_length() + 1}


def suspects(history: History) -> set[str]:
    """Returns the nodes that fail everything while others do not, and should get no more work."""
    if not history.some_succeeded:
        return set()
    return {node for node, attempts in history.last.items() if _fails_everything(attempts)}


def is_quarantined(shard: Shard, history: History) -> bool:
    """True if a shard has failed too often to be tried again in this submission."""
    if shard.shard_id in history.quarantined:
        return True
    counts = _counted(shard, history)
    return any(counts[kind] >= limit for kind, limit in limits(shard).items())


def next_start(
    waiting: Iterable[Shard], running: Collection[str], history: History
) -> Start | None:
    """Returns the next shard to start, or None if there is none. Shards start in the order given,
    but those that have failed before come last, and last of all those that must be alone.

    waiting  the shards without a commit
    running  the ids of the shards that are at work
    """
    idle = (shard for shard in waiting if shard.shard_id not in running)
    failed_before = []
    for shard in idle:
        if shard.shard_id not in history.failures:
            return Start(shard, None)
        failed_before.append(shard)
    allowed = [shard for shard in failed_before if not is_quarantined(shard, history)]
    starts = [_another(shard, history) for shard in allowed]
    tries = {shard.shard_id: len(history.failures[shard.shard_id]) for shard in allowed}
    return min(starts, key=lambda start: (start.alone, tries[start.shard.shard_id]), default=None)


def _another(shard: Shard, history: History) -> Start:
    """The start of a shard that has failed before."""
    halvings = sum(attempt.failure == "memory" for attempt in _failures_of(shard, history))
    width = max(1, len(shard.trials) >> halvings) if halvings else None
    counts = _counted(shard, history)
    return Start(shard, width, halvings > 0 or counts["lost"] >= COMPANY or counts["hung"] > 0)


def _counted(shard: Shard, history: History) -> Counter[FailureKind | None]:
    """The failures of a shard that are not forgiven, by kind."""
    counts: Counter[FailureKind | None] = Counter()
    farthest = 0.0
    for attempt in _failures_of(shard, history):
        advanced, farthest = attempt.reached > farthest, max(farthest, attempt.reached)
        forgiven = attempt.failure == "lost" and advanced
        if not forgiven and attempt.worker.node_id not in history.avoided:
            counts[attempt.failure] += 1
    return counts


def _failures_of(shard: Shard, history: History) -> list[Attempt]:
    return history.failures.get(shard.shard_id, [])


def _fails_everything(attempts: Collection[Attempt]) -> bool:
    failed = all(attempt.failure in ("error", "store", "hung") for attempt in attempts)
    several = len({attempt.shard_id for attempt in attempts}) > 1
    return len(attempts) == STREAK and failed and several
