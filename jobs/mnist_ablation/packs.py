"""Packs the trials of the ablations into shards of some length, by their settings and seeds alone.

A shard pays once for what its trials share: minibatches and the copy of BP. A longer shard pays it
less often. Many workers want short ones, so that all of them end at about the same time. So a shard
takes WORTH times as long as what its trials share, and the last ones of a group are shorter: they
fill the gaps that the longer ones leave, because a sweep starts its longest shards first.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from jobs.mnist_ablation.cost import shared_seconds, trial_seconds
from pcworker.equations.rules import RULES
from pcworker.trials.configuration import Configuration, stack_key
from pcworker.trials.trial import Trial

MAX_WIDTH = 48
"""The largest number of trials in a shard. They may all be in one stack, which takes memory."""
WORTH = 22
"""How many times as long as what its trials share a shard takes."""
MOST_SHARDS = 20_000
"""The number of shards from which on shards become longer, so that there are not many more."""
LAST = (0.5, 0.3, 0.2)
"""The shares of the last shards of a group in what is left for them."""
LEAST = 4
"""How many times as long as what its trials share the shortest shard of a group takes. What is
shorter joins another shard."""


Group = tuple[Configuration, int]
"""The settings and the seed that trials must share to be in one shard."""


def packs(trials: Iterable[Trial], worth: float = WORTH) -> list[list[Trial]]:
    """Packs the trials into shards. The plan passes them in the order of their ids.

    worth  the times for which a shard takes as long as what its trials share; infinite: the fewest
           shards, which is best for one worker

    A trial of BP joins the first group of its seed that would train a copy of it.
    """
    groups: dict[Group, list[Trial]] = {}
    homes: dict[Group, Group] = {}
    for trial in sorted(trials, key=lambda trial: not RULES[trial.configuration.rule].infers):
        config, seed = trial.configuration, trial.seed
        if not RULES[config.rule].infers:
            group = homes.get((config, seed), (config, seed))
        else:
            group = stack_key(config), seed
            homes.setdefault((config.twin(), seed), group)
        groups.setdefault(group, []).append(trial)
    whole = sum(trial_seconds(t.configuration) for group in groups.values() for t in group)
    least = whole / MOST_SHARDS
    return [pack for group in groups.values() for pack in _cut(group, least, worth)]


@dataclass
class _Shard:
    """A shard while it is filled."""

    left: float
    """The seconds that it still has room for."""
    trials: list[Trial] = field(default_factory=list)

    def room(self, seconds: float) -> float:
        """The seconds that would be left after a trial of so many."""
        return self.left - seconds if len(self.trials) < MAX_WIDTH else -math.inf


def _cut(group: Sequence[Trial], least: float, worth: float) -> list[list[Trial]]:
    """Cuts a group into shards. None but the last ones are to take less than `least` seconds.

    Each trial goes to the first shard that has room for it, or to the one that has most. BP comes
    first, and has a shard of its own where it is long. Noisy trials come next, so that their noise
    is drawn in few shards, and then the others, the longest first.
    """
    config = max((t.configuration for t in group), key=lambda config: config.last_step)
    shared = shared_seconds(config)
    target = max(worth * shared, least)
    timed = sorted(((trial_seconds(t.configuration), t) for t in group), key=_turn)
    lengths = _lengths(sum(seconds for seconds, _ in timed), target)
    shards = [_Shard(length) for length in lengths]
    for seconds, trial in timed:
        fitting = next((each for each in shards if each.room(seconds) >= 0), None)
        shard = fitting or max(shards, key=lambda each: each.room(seconds))
        if len(shard.trials) == MAX_WIDTH:
            shards.append(shard := _Shard(target))
        shard.trials.append(trial)
        shard.left -= seconds
    return _joined([shard.trials for shard in shards if shard.trials], LEAST * shared)


def _joined(shards: list[list[Trial]], least: float) -> list[list[Trial]]:
    """The shards, of which those that are shorter than `least` have joined the shortest others."""
    timed = sorted(
        (sum(trial_seconds(t.configuration) for t in shard), place)
        for place, shard in enumerate(shards)
    )
    (shortest, place), *others = timed
    fitting = [p for _, p in others if len(shards[p]) + len(shards[place]) <= MAX_WIDTH]
    if shortest >= least or not fitting:
        return shards
    shards[fitting[0]] += shards[place]
    return _joined(shards[:place] + shards[place + 1 :], least)


def _turn(timed: tuple[float, Trial]) -> tuple[bool, bool, float, str]:
    """The sorting key of a trial and its seconds."""
    seconds, trial = timed
    config = trial.configuration
    return RULES[config.rule].infers, not config.noisy, -seconds, trial.trial_id


def _lengths(seconds: float, target: float) -> Iterator[float]:
    """The lengths of a group's shards: of `target` each, and then some that are shorter."""
    while seconds > 2 * target:
        yield target
        seconds -= target
    yield from (share * seconds for share in (LAST if seconds > target else (1.0,)))
