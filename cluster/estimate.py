"""About how long a sweep takes: pure arithmetic on its plan."""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cluster.cost import Speeds
from cluster.plan import Plan, Shard

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
    plan: Plan, left: Sequence[Shard], workers: int, speeds: Speeds | None = None
) -> Estimate:
    """`speeds`: this machine's, if they are known; else the minutes are the cost table's."""
    cost = plan.experiment.seconds
    seconds = {s.shard_id: cost(s.trials, speeds) if speeds else cost(s.trials) for s in left}
    return Estimate(seconds, max(1, min(workers, len(left))))


def makespan(seconds: Iterable[float], workers: int) -> float:
    """When the last of `workers` is done, if each takes the next of these when it is free."""
    free = [0.0] * workers
    for each in seconds:
        heapq.heappush(free, heapq.heappop(free) + each)
    return max(free)
