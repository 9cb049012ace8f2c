"""What to do next: pure functions of what is planned, done, running and has failed."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from cluster.plan import Shard

FailureKind = Literal["error", "lost", "memory"]
"""error: the shard raised; lost: its worker or node went; memory: it ran out of memory."""

LIMITS: dict[FailureKind, int] = {"error": 3, "lost": 10, "memory": 8}
"""Failures of a kind after which a shard is quarantined. A lost worker is seldom the shard's own
fault, so many are forgiven; running out of memory halves the stacks each time."""


@dataclass(frozen=True)
class Failure:
    """One attempt that did not end in a commit."""

    shard_id: str
    kind: FailureKind


@dataclass(frozen=True)
class Start:
    """Start this shard, in stacks of at most `max_width` trials (None: all in one)."""

    shard: Shard
    max_width: int | None


def is_quarantined(shard_id: str, failures: Collection[Failure]) -> bool:
    """Whether a shard has failed too often to be tried again in this submission."""
    counts = Counter(failure.kind for failure in failures if failure.shard_id == shard_id)
    return any(counts[kind] >= limit for kind, limit in LIMITS.items())


def next_start(
    shards: Sequence[Shard],
    done: Collection[str],
    running: Collection[str],
    failures: Collection[Failure],
) -> Start | None:
    """The next shard to start, in the plan's order; those that failed go last. None: nothing."""
    waiting = [
        shard
        for shard in shards
        if shard.shard_id not in done
        and shard.shard_id not in running
        and not is_quarantined(shard.shard_id, failures)
    ]
    if not waiting:
        return None
    failed = Counter(failure.shard_id for failure in failures)
    shard = min(waiting, key=lambda shard: failed[shard.shard_id])
    halvings = sum(f.shard_id == shard.shard_id and f.kind == "memory" for f in failures)
    width = max(1, len(shard.trials) >> halvings) if halvings else None
    return Start(shard, width)
