"""How the trials of the ablations are packed into shards: a pure function of their set."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from pcworker.config import Trial, stack_key

MAX_WIDTH = 48
"""Most trials in a shard: what a stack shares is small by then, and a shard is a unit of loss."""
LONG = 16
"""From this many inference steps on, trials of several seeds share a stack: then their steps cost
so much more than the twins of their seeds that a wide stack is worth it."""


def packs(trials: Iterable[Trial]) -> list[list[Trial]]:
    """`trials` in shards; their order decides nothing but the order of equals."""
    groups: dict[Any, list[Trial]] = {}
    for trial in sorted(trials, key=lambda trial: trial.configuration.rule == "BP"):
        groups.setdefault(_group(trial, groups), []).append(trial)
    return [pack for group in groups.values() for pack in _cut(group)]


def _group(trial: Trial, groups: Collection[Any]) -> Any:
    """Trials with one group may share a shard. BP joins the first group that trains its twin."""
    config = trial.configuration
    if config.rule == "BP":
        twins = [g for g in groups if g[0].twin() == config and g[1] == trial.seed]
        return twins[0] if twins else (config, trial.seed)
    return stack_key(config), None if config.last_step >= LONG else trial.seed


def _cut(group: Sequence[Trial]) -> Iterable[list[Trial]]:
    """A group in stacks of at most MAX_WIDTH, about equally wide, like steps together."""
    ordered = sorted(group, key=lambda t: (-t.configuration.last_step, t.seed, t.trial_id))
    count = -(-len(ordered) // MAX_WIDTH)
    for k in range(count):
        yield ordered[len(ordered) * k // count : len(ordered) * (k + 1) // count]
