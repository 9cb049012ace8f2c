"""How many workers are worth it: the time of a sweep by its shards and the cost table alone."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from rich.table import Table

from cluster.sweeps.estimate import makespan
from jobs.mnist_ablation.cost import shard_seconds, trial_seconds
from jobs.mnist_ablation.packs import packs
from pcworker.equations.rules import label
from pcworker.errors import InputError
from pcworker.text import counted
from pcworker.trials.trial import Trial


class Point(NamedTuple):
    """The time of a sweep with some number of workers."""

    workers: int
    seconds: float
    """The seconds from the first shard's start to the last one's end."""
    speed_up: float
    """How many times as fast as one worker that trains the fewest shards."""
    bound: str
    """What keeps it from being faster."""

    @property
    def efficiency(self) -> float:
        return self.speed_up / self.workers


def require_counts(workers: Sequence[int]) -> None:
    """Raises InputError for a number of workers below 1."""
    for count in workers:
        if count < 1:
            raise InputError(f"--workers {count}: give whole numbers of at least 1")


def curve(trials: Sequence[Trial], workers: Sequence[int]) -> list[Point]:
    """The time of a sweep of these trials, by the cost table, for each number of workers."""
    ordered = sorted(trials, key=lambda trial: trial.trial_id)
    shards = sorted(packs(ordered), key=lambda shard: -shard_seconds(shard))
    seconds = [shard_seconds(shard) for shard in shards]
    one = sum(shard_seconds(shard) for shard in packs(ordered, worth=math.inf))
    points = []
    for count in workers:
        took = makespan(seconds, count)
        bound = f"what its {len(shards)} shards share, and that not all end together"
        if took <= seconds[0]:
            bound = f"its longest shard: {_longest(shards[0])}"
        points.append(Point(count, took, one / took, bound))
    return points


def _longest(shard: Sequence[Trial]) -> str:
    """The longest trial of a shard, in words."""
    trial = max(shard, key=lambda trial: trial_seconds(trial.configuration))
    config, seconds = trial.configuration, trial_seconds(trial.configuration)
    beside = f" and {counted(len(shard) - 1, 'more trial')}" if len(shard) > 1 else ""
    return f"{label(config.rule, config.t)} of {config.network}, {seconds:.0f} s{beside}"


def curve_table(points: Sequence[Point]) -> Table:
    """The table of a curve: a row for each number of workers."""
    made = Table(title="By the cost table, without the start of Ray", title_justify="left")
    for name in ("workers", "minutes", "speed-up", "efficiency"):
        made.add_column(name, justify="right")
    made.add_column("what bounds it")
    for point in points:
        made.add_row(
            f"{point.workers:,}",
            f"{point.seconds / 60:.2f}",
            f"{point.speed_up:.1f}",
            f"{point.efficiency:.1%}",
            point.bound,
        )
    return made
