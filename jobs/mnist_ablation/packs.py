"""Packs the trials of the ablations into shards, by their configurations and seeds alone."""

from collections.abc import Iterable, Sequence

from pcworker.equations.rules import RULES
from pcworker.trials.configuration import Configuration, stack_key
from pcworker.trials.trial import Trial

MAX_WIDTH = 48
"""The largest number of trials in a shard. A wider stack would save little more, and a worker that
is lost loses a whole shard."""
LONG = 16
"""Trials with at least this many inference steps share a stack with other seeds. Their steps cost
so much that a wide stack pays, although the shard must then train a twin for each of its seeds."""


Group = tuple[Configuration, int | None]
"""The settings and the seed that trials must share to be in one shard; None: any seed."""


def packs(trials: Iterable[Trial]) -> list[list[Trial]]:
    """Packs the trials into shards. The plan passes them in the order of their ids.

    A trial of BP joins the first shard of its seed alone that would train a copy of it.
    """
    groups: dict[Group, list[Trial]] = {}
    homes: dict[Group, Group] = {}
    for trial in sorted(trials, key=lambda trial: not RULES[trial.configuration.rule].infers):
        config = trial.configuration
        if not RULES[config.rule].infers:
            group = homes.get((config, trial.seed), (config, trial.seed))
        else:
            group = stack_key(config), None if config.last_step >= LONG else trial.seed
            homes.setdefault((config.twin(), group[1]), group)
        groups.setdefault(group, []).append(trial)
    return [pack for group in groups.values() for pack in _cut(group)]


def _cut(group: Sequence[Trial]) -> Iterable[list[Trial]]:
    """Cuts a group into stacks of about equal width, at most MAX_WIDTH, with similar numbers of
    inference steps."""
    ordered = sorted(group, key=lambda t: (-t.configuration.last_step, t.seed, t.trial_id))
    count = -(-len(ordered) // MAX_WIDTH)
    for k in range(count):
        yield ordered[len(ordered) * k // count : len(ordered) * (k + 1) // count]
