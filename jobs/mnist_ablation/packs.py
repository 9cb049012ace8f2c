"""How the trials of the ablations are packed into shards: a pure function of their set."""

from collections.abc import Iterable, Sequence

from pcworker.trials.configuration import Configuration, stack_key
from pcworker.trials.trial import Trial

MAX_WIDTH = 48
"""Most trials in a shard: what a stack shares is small by then, and a shard is a unit of loss."""
LONG = 16
"""From this many inference steps on, trials of several seeds share a stack: then their steps cost
so much more than the twins of their seeds that a wide stack is worth it."""


Group = tuple[Configuration, int | None]
"""What trials must share to share a shard; None: all seeds."""


def packs(trials: Iterable[Trial]) -> list[list[Trial]]:
    """`trials` in shards; their order decides nothing but the order of equals.

    BP joins the first group that trains its twin for its seed alone."""
    groups: dict[Group, list[Trial]] = {}
    homes: dict[Group, Group] = {}
    for trial in sorted(trials, key=lambda trial: trial.configuration.rule == "BP"):
        config = trial.configuration
        if config.rule == "BP":
            group = homes.get((config, trial.seed), (config, trial.seed))
        else:
            group = stack_key(config), None if config.last_step >= LONG else trial.seed
            homes.setdefault((config.twin(), group[1]), group)
        groups.setdefault(group, []).append(trial)
    return [pack for group in groups.values() for pack in _cut(group)]


def _cut(group: Sequence[Trial]) -> Iterable[list[Trial]]:
    """A group in stacks of at most MAX_WIDTH, about equally wide, like steps together."""
    ordered = sorted(group, key=lambda t: (-t.configuration.last_step, t.seed, t.trial_id))
    count = -(-len(ordered) // MAX_WIDTH)
    for k in range(count):
        yield ordered[len(ordered) * k // count : len(ordered) * (k + 1) // count]
