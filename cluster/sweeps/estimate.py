"""Estimates how long a sweep takes, by pure arithmetic on its plan."""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cluster.experiment import Seconds
from cluster.sweeps.plan import Plan, Shard
from pcworker.text import counted

BYTES_PER_WEIGHT = 3 * 8
"""Upper bound of the bytes that one weight takes in the store: a double (8 bytes) in its shard's
file, a copy in a compaction, and another in the collected table. Compression makes all smaller."""
START_S = 9.0
"""Seconds until the first worker is ready: Ray starts, and the worker's process imports torch."""


@dataclass(frozen=True)
class Estimate:
    """The expected time of the shards that are to be run."""

    seconds: dict[str, float]
    """The seconds that each shard takes, by shard id."""
    workers: int
    """How many workers run at the same time."""

    @property
    def wall_seconds(self) -> float:
        """The seconds from the start of Ray to the last commit."""
        return START_S + makespan(self.seconds.values(), self.workers)

    def __str__(self) -> str:
        total, wall = sum(self.seconds.values()) / 60, self.wall_seconds / 60
        workers = counted(self.workers, "worker")
        return f"{total:,.1f} worker minutes, {wall:,.1f} minutes with {workers}"


def estimate(
    plan: Plan, left: Sequence[Shard], workers: int, measured: Seconds | None = None
) -> Estimate:
    """Estimates the time of the shards `left`.

    measured  estimates a shard's seconds from this machine's measured speed; None: the
              experiment's fixed cost table is used
    """
    if measured is None:
        seconds = {shard.shard_id: plan.seconds[shard.shard_id] for shard in left}
    else:
        seconds = {shard.shard_id: measured(shard.trials) for shard in left}
    return Estimate(seconds, max(1, min(workers, len(left))))


def makespan(seconds: Iterable[float], workers: int) -> float:
    """The seconds until all tasks are done.

    seconds  how long each task takes, in the order in which the tasks are started; a worker that
             becomes free takes the next one
    """
    free = [0.0] * workers
    for each in seconds:
        heapq.heappush(free, heapq.heappop(free) + each)
    return max(free)
