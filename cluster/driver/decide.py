"""What to do next: pure functions of what is planned, done, running and has failed."""

from collections import Counter, deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from cluster.sweeps.plan import Shard

FailureKind = Literal["error", "lost", "memory", "store"]
"""error: the shard raised; lost: its worker or node went; memory: it ran out of memory; store: its
worker could not read or write the store."""

LIMITS: dict[FailureKind, int] = {"error": 3, "lost": 10, "store": 10}
"""Failures of a kind after which a shard is quarantined. A lost worker or store is seldom the
shard's own fault, so many are forgiven, and a loss that came after some progress does not count at
all. (Of memory: see `limits`.)"""

STREAK = 3
"""So many attempts in a row, of more than one shard, make a node that fails them all a suspect."""


@dataclass(frozen=True)
class Attempt:
    """One attempt that has ended."""

    shard_id: str
    node_id: str
    failure: FailureKind | None
    """None: it ended in a commit."""
    advanced: bool = False
    """Whether it got further than every attempt of its shard before it."""


class History:
    """What there is to remember of the attempts that have ended."""

    def __init__(self, attempts: Iterable[Attempt] = ()) -> None:
        self.failures: list[Attempt] = []
        self.last: dict[str, deque[Attempt]] = {}
        """By node: its last attempts, STREAK of them."""
        self.some_succeeded = False
        self.quarantined: set[str] = set()
        """Shards that were found to have failed too often: that holds."""
        self.avoided: set[str] = set()
        """Nodes that get no more work: what failed there says nothing of a shard."""
        for attempt in attempts:
            self.add(attempt)

    def add(self, attempt: Attempt) -> None:
        """Remembers an attempt that has just ended."""
        self.last.setdefault(attempt.node_id, deque(maxlen=STREAK)).append(attempt)
        if attempt.failure is None:
            self.some_succeeded = True
        else:
            self.failures.append(attempt)


@dataclass(frozen=True)
class Start:
    """Start this shard, in stacks of at most `max_width` trials (None: all in one)."""

    shard: Shard
    max_width: int | None


def limits(shard: Shard) -> dict[FailureKind, int]:
    """Failures of each kind after which a shard is quarantined. Running out of memory halves its
    stacks each time, down to one trial; that is tried twice."""
    return {**LIMITS, "memory": len(shard.trials).bit_length() + 1}


def suspects(history: History) -> set[str]:
    """The nodes that fail everything while others do not: they should get no more work."""
    if not history.some_succeeded:
        return set()
    return {node for node, attempts in history.last.items() if _fails_everything(attempts)}


def is_quarantined(shard: Shard, history: History) -> bool:
    """Whether a shard has failed too often to be tried again in this submission."""
    if shard.shard_id in history.quarantined:
        return True
    counts = Counter(
        attempt.failure
        for attempt in history.failures
        if attempt.shard_id == shard.shard_id
        and attempt.node_id not in history.avoided
        and not (attempt.failure == "lost" and attempt.advanced)
    )
    return any(counts[kind] >= limit for kind, limit in limits(shard).items())


def next_start(
    waiting: Iterable[Shard], running: Collection[str], history: History
) -> Start | None:
    """The next shard to start, in the order given; those that failed go last. None: nothing.

    waiting  the shards without a commit
    running  the ids of those that are at work
    """
    failed = Counter(attempt.shard_id for attempt in history.failures)
    idle = (shard for shard in waiting if shard.shard_id not in running)
    failed_before = []
    for shard in idle:
        if not failed[shard.shard_id]:
            return Start(shard, None)
        failed_before.append(shard)
    allowed = [s for s in failed_before if not is_quarantined(s, history)]
    if not allowed:
        return None
    shard = min(allowed, key=lambda shard: failed[shard.shard_id])
    halvings = sum(a.shard_id == shard.shard_id and a.failure == "memory" for a in history.failures)
    return Start(shard, max(1, len(shard.trials) >> halvings) if halvings else None)


def _fails_everything(attempts: Collection[Attempt]) -> bool:
    failed = all(attempt.failure in ("error", "store") for attempt in attempts)
    several = len({attempt.shard_id for attempt in attempts}) > 1
    return len(attempts) == STREAK and failed and several
