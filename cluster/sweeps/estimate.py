"""About how long a sweep takes: pure arithmetic on its plan."""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cluster.experiment import Seconds
from cluster.sweeps.plan import Plan, Shard

BYTES_PER_WEIGHT = 2 * 8
"""A double in a shard's file and in the table; compression makes it less."""
START_S = 9.0
"""Until the first worker is there: Ray starts, and the worker's process imports torch."""


@dataclass(frozen=True)
class Estimate:
    """Of the shards that are to be run."""

    seconds: dict[str, float]
    """By shard id."""
    workers: int

    @property
    def wall_seconds(self) -> float:
        """From the start of Ray to the last commit."""
        return START_S + makespan(self.seconds.values(), self.workers)

    def __str__(self) -> str:
        total, wall = sum(self.seconds.values()) / 60, self.wall_seconds / 60
        return f"{total:.1f} worker minutes, {wall:.1f} minutes with {self.workers} worker(s)"


def estimate(
    plan: Plan, left: Sequence[Shard], workers: int, measured: Seconds | None = None
) -> Estimate:
    """`measured`: this machine's own times, if they are known; else they are the cost table's."""
    cost = measured or plan.experiment.seconds
    seconds = {shard.shard_id: cost(shard.trials) for shard in left}
    return Estimate(seconds, max(1, min(workers, len(left))))


def makespan(seconds: Iterable[float], workers: int) -> float:
    """When the last of `workers` is done, if each takes the next of these when it is free."""
    free = [0.0] * workers
    for each in seconds:
        heapq.heappush(free, heapq.heappop(free) + each)
    return max(free)
