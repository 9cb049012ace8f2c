"""Sums up the work of shards by network, rule and t, so that a plan of any size fits a screen."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cluster.sweeps.plan import Plan, Shard
from pcworker.equations.rules import label
from pcworker.trials.trial import Trial

MOST_ROWS = 40
"""A summary that would have more rows does without t. If that is not enough, it does without rules,
too, and at last without networks."""
ALL = "all"
"""Stands for all networks, or all rules, that are summed up together."""

Heading = tuple[str, str]
"""A network, and a rule with its t. Each of them may be ALL."""

_GROUPINGS: tuple[Callable[[Any], Heading], ...] = (
    lambda config: (config.network, label(config.rule, getattr(config, "t", None))),
    lambda config: (config.network, config.rule),
    lambda config: (config.network, ALL),
    lambda config: (ALL, ALL),
)


@dataclass(frozen=True)
class Amount:
    """An amount of work."""

    trials: int = 0
    updates: float = 0.0
    """The number of weight updates. A shard's are shared out evenly among its trials."""
    seconds: float = 0.0
    """The expected time. A shard's is shared out by what its trials would take alone."""

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(
            self.trials + other.trials,
            self.updates + other.updates,
            self.seconds + other.seconds,
        )


def summed_up(
    plan: Plan[Any], left: Iterable[Shard[Any]], seconds: Mapping[str, float]
) -> dict[Heading, Amount]:
    """The work of the shards `left` in at most MOST_ROWS rows, in the order of the plan's cells.

    seconds  the seconds that each shard takes, by shard id
    """
    found = _by_configuration(plan, left, seconds)
    ordered = dict.fromkeys(cell.configuration for cell in plan.cells)
    rows: dict[Heading, Amount] = {}
    for heading_of in _GROUPINGS:
        rows = {}
        for configuration in (each for each in ordered if each in found):
            heading = heading_of(configuration)
            rows[heading] = rows.get(heading, Amount()) + found[configuration]
        if len(rows) <= MOST_ROWS:
            break
    return rows


def _by_configuration(
    plan: Plan[Any], left: Iterable[Shard[Any]], seconds: Mapping[str, float]
) -> dict[Any, Amount]:
    found: dict[Any, Amount] = {}
    alone: dict[Any, float] = {}
    for shard in left:
        counts = Counter(trial.configuration for trial in shard.trials)
        for each in counts.keys() - alone.keys():
            alone[each] = plan.experiment.seconds([Trial(each, plan.seeds[0])])
        updates = plan.experiment.updates(shard.trials) / len(shard.trials)
        share = seconds[shard.shard_id] / sum(n * alone[each] for each, n in counts.items())
        for each, n in counts.items():
            part = Amount(n, n * updates, n * alone[each] * share)
            found[each] = found.get(each, Amount()) + part
    return found
