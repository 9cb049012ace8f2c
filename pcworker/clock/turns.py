"""Times several learning rules fairly, by letting them take turns.

All rules learn the same minibatches from the same initial weights. After a warm-up they take turns,
with a block of updates each: A B C D, C A D B, and so on, in an order that is drawn for each turn.
So a change in the machine's speed hits all rules alike, and none always follows the same other one,
whose data fill the caches. The time of a block is divided by its number of updates. The time of a
rule is the median over its blocks, with the 10th and 90th percentiles. Its ratio to BP is computed
in every turn, from the block of BP in that turn, and is reported in the same way: the median over
turns.

These times do not include loading: the minibatches of a turn are on the device before it begins,
and nothing is loaded meanwhile. If the loop with loading is wanted too, it is timed afterwards, one
rule after the other.
"""

import gc
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TypeVar

import numpy as np

B = TypeVar("B")
Update = Callable[[B], object]
"""A function that makes one weight update of one rule on a minibatch."""
Action = Callable[[], object]


@dataclass(frozen=True)
class Spread:
    """The median and two percentiles of the values of one rule's blocks."""

    median: float
    p10: float
    p90: float


def spread(values: Sequence[float]) -> Spread:
    """The spread of the values. Percentiles are interpolated linearly between two values."""
    p10, median, p90 = np.quantile(values, (0.1, 0.5, 0.9))
    return Spread(float(median), float(p10), float(p90))


def ratios(ours: Sequence[float], bp: Sequence[float]) -> list[float]:
    """The ratio of our time to BP's in each turn."""
    return [a / b for a, b in zip(ours, bp, strict=True)]


def warm_up(
    peak_bytes: Callable[[Action], int], updates: Sequence[Update[B]], batches: Iterable[B]
) -> list[int]:
    """Makes an untimed update of every rule on each of the batches.

    Returns, for each rule, the peak bytes of its first update, without its weights and the
    minibatch.
    """
    peaks: list[int] = []
    for batch in batches:
        for update in updates:
            if len(peaks) < len(updates):
                peaks.append(peak_bytes(partial(update, batch)))
            else:
                update(batch)
    return peaks


def take_turns(
    milliseconds: Callable[[Action], float],
    updates: Sequence[Update[B]],
    turns: Iterable[Sequence[B]],
    report: Callable[[], None] = lambda: None,
) -> list[list[float]]:
    """Returns milliseconds per update, by rule and turn.

    turns   the minibatches of each turn; every rule learns them in that turn
    report  it is called after each turn
    """
    times: list[list[float]] = [[] for _ in updates]
    drawn = random.Random(0)
    with without_garbage_collection():
        for batches in turns:
            for rule in drawn.sample(range(len(updates)), len(updates)):
                action = partial(_learn, updates[rule], batches)
                times[rule].append(milliseconds(action) / len(batches))
            report()
    return times


def time_loops(
    milliseconds: Callable[[Action], float],
    updates: Sequence[Update[B]],
    loaded: Iterator[B],
    blocks: int,
    block: int,
    ahead: int,
    report: Callable[[], None] = lambda: None,
) -> list[list[float]]:
    """Returns milliseconds per update of the loop of loading and learning, by rule and block.

    Each update takes its minibatch from `loaded`, and the time includes this. The rules see
    different minibatches.

    blocks  how many blocks each rule has
    block   how many updates are in a block
    ahead   how many minibatches are loaded in advance
    report  it is called after each block

    The rules do not take turns here, because one rule would use minibatches that were loaded during
    the turn of another. Each rule makes all its blocks in a row, after `ahead` untimed updates.
    """
    times: list[list[float]] = [[] for _ in updates]
    with without_garbage_collection():
        for update, mine in zip(updates, times, strict=True):
            _learn(update, islice(loaded, ahead))
            for _ in range(blocks):
                mine.append(milliseconds(partial(_learn, update, islice(loaded, block))) / block)
                report()
    return times


def _learn(update: Update[B], batches: Iterable[B]) -> None:
    for batch in batches:
        update(batch)


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Turns Python's garbage collection off: a collection would slow down one rule by chance."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
