"""What the benchmark makes of its times: pure functions, so that they can be tested by hand.

Every round times each contender once, for a short block of updates, the order rotated by one from
round to round: whatever changes on the machine meanwhile hits all alike. A ratio is taken within a
round, and the median over rounds is given, with the 10th and 90th percentile.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from pcworker.clock.turns import Spread, ratios, spread
from pcworker.kernels.fused.trial import Program

_T = TypeVar("_T")


def rotated(items: Sequence[_T], places: int) -> list[_T]:
    """The items from place `places` on, and then those before it."""
    first = places % max(1, len(items))
    return [*items[first:], *items[:first]]


class Times(NamedTuple):
    """Of one block."""

    batches: float
    """Seconds in which its batches were made; 0 where they were ready."""
    learning: float
    """Seconds of its weight updates."""


@dataclass(frozen=True)
class Measured:
    """One contender's times, round by round, in milliseconds per weight update of one trial."""

    who: str
    rule: str
    width: int
    """Trials that share a block, and its batches."""
    batches: tuple[float, ...]
    learning: tuple[float, ...]

    @property
    def total(self) -> list[float]:
        """With the batches' making, where it is part of the block."""
        return [a + b for a, b in zip(self.batches, self.learning, strict=True)]

    @property
    def median(self) -> float:
        return spread(self.total).median


def measured_blocks(
    who: str, rule: str, width: int, blocks: Sequence[Times], updates: int
) -> Measured:
    """From the times of blocks of so many updates of each of `width` trials."""
    share = 1000 / (updates * width)
    batches = tuple(times.batches * share for times in blocks)
    return Measured(who, rule, width, batches, tuple(times.learning * share for times in blocks))


def compared(ours: Measured, other: Measured) -> Spread:
    """How many times as long as the other's an update of ours takes."""
    return spread(ratios(ours.total, other.total))


def fastest(rows: Sequence[Measured]) -> Measured:
    """By the median."""
    return min(rows, key=lambda row: row.median)


def full_speed_from(rows: Sequence[Measured], tolerance: float) -> int | None:
    """The smallest width from which on every stack of these is as fast as the fastest, up to a
    share of `tolerance` of its time (medians of ratios within rounds); None if the widest is not:
    speed falls."""
    best, found = fastest(rows), None
    for row in sorted(rows, key=lambda row: -row.width):
        if compared(row, best).median > 1 + tolerance:
            break
        found = row.width
    return found


class Needed(NamedTuple):
    """What arithmetic a weight update cannot do without."""

    multiply_adds: float
    sigmoids: float


def work(program: Program, widths: Sequence[int], batch: int, entries: float) -> Needed:
    """Of a trial's operations on one minibatch.

    program  operations, each of a layer l
    widths   by l
    batch    samples
    entries  pixels of the minibatch that are multiplied: all, or only those that are not 0
    Products alone are counted: what is done once for each unit (subtracting, adding) is not.
    """
    total = sigmoids = 0.0
    inputs = len(widths) - 1
    for operation, l in program:
        if operation in ("predict", "learn", "learn_gated"):
            above = entries if l + 1 == inputs else batch * widths[l + 1]
            total += above * widths[l]
        elif operation in ("move", "pull_back"):
            total += batch * widths[l] * widths[l - 1]
        elif operation == "activate":
            sigmoids += batch * widths[l]
    return Needed(total, sigmoids)


def floor_ms(needed: Needed, gflops: float, ns_per_sigmoid: float) -> float:
    """Milliseconds of an update in which a core does nothing but its multiply-adds, at the rate of
    a large product (two operations each), and then its sigmoids."""
    return 1e3 * (2 * needed.multiply_adds / (gflops * 1e9)) + 1e-6 * (
        needed.sigmoids * ns_per_sigmoid
    )
