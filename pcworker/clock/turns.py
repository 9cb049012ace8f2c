"""The method of the timing runs.

All rules learn the same minibatches from the same initial weights. After a warm-up they take turns,
a block of updates each: A B C D, A B C D, ... so that whatever changes on the machine meanwhile
hits all alike. A block's time is divided by its updates. A rule's time is the median over blocks,
with the 10th and 90th percentile; its ratio to BP is taken in every turn, with the block of BP of
that turn, and the median over turns is given, likewise.

Loading is not in these times: a turn's minibatches are on the device before it begins, and nothing
loads meanwhile. The whole loop, where it is wanted, is timed afterwards, a rule after the other.
"""

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TypeVar

import numpy as np

B = TypeVar("B")
Update = Callable[[B], object]
"""One weight update of one rule, on a minibatch."""
Action = Callable[[], object]


@dataclass(frozen=True)
class Spread:
    """Of the blocks of one rule."""

    median: float
    p10: float
    p90: float


def spread(values: Sequence[float]) -> Spread:
    """Percentiles between two values are interpolated."""
    p10, median, p90 = np.quantile(values, (0.1, 0.5, 0.9))
    return Spread(float(median), float(p10), float(p90))


def ratios(ours: Sequence[float], bp: Sequence[float]) -> list[float]:
    """Turn by turn."""
    return [a / b for a, b in zip(ours, bp, strict=True)]


def warm_up(
    peak_bytes: Callable[[Action], int], updates: Sequence[Update[B]], batches: Iterable[B]
) -> list[int]:
    """Untimed updates of every rule on each of the batches; returns the most bytes that the first
    update of each has taken beside weights and minibatch."""
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
    """Milliseconds per update, by rule and turn.

    turns   the minibatches of each turn, which every rule learns in that turn
    report  is called after each turn
    """
    times: list[list[float]] = [[] for _ in updates]
    with without_garbage_collection():
        for batches in turns:
            for update, mine in zip(updates, times, strict=True):
                mine.append(milliseconds(partial(_learn, update, batches)) / len(batches))
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
    """Milliseconds per update of the whole loop, by rule and block: each update's minibatch is
    taken from `loaded` within the time. The rules see different minibatches.

    ahead  minibatches that are loaded in advance
    No turns here: one rule would use what was loaded during another's. Each has all its blocks in a
    row, after as many untimed updates as there are minibatches ahead.
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
    """A collection would be some rule's bad luck."""
    gc.collect()
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
