"""Evaluates the times of the benchmark. All functions are pure, so their tests can count by hand.

Every round times each contender once, for a short block of updates. The order is rotated by one
place from round to round, so that changes on the machine affect all contenders alike. Ratios are
taken within a round. The tables give their median over rounds, and the 10th and 90th percentiles.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from pcworker.clock.turns import Spread, ratios, spread
from pcworker.kernels.program import Program

_T = TypeVar("_T")


def rotated(items: Sequence[_T], places: int) -> list[_T]:
    """Rotates the items: those from index `places` on come first, then those before it."""
    first = places % max(1, len(items))
    return [*items[first:], *items[:first]]


class Times(NamedTuple):
    """The times of one block of weight updates."""

    batches: float
    """Seconds in which the block's batches were made; 0 if they were ready before."""
    learning: float
    """Seconds that the weight updates took."""


@dataclass(frozen=True)
class Measured:
    """One contender's times, round by round, in milliseconds per weight update of one trial."""

    who: str
    rule: str
    width: int
    """The number of trials that share a block and its batches."""
    batches: tuple[float, ...]
    """The time in which the batches were made, by round."""
    learning: tuple[float, ...]
    """The time of the weight updates, by round."""

    @property
    def total(self) -> list[float]:
        """The time of an update including its batch, by round."""
        return [a + b for a, b in zip(self.batches, self.learning, strict=True)]

    @property
    def median(self) -> float:
        """The median of `total` over the rounds."""
        return spread(self.total).median


def measured_blocks(
    who: str, rule: str, width: int, blocks: Sequence[Times], updates: int
) -> Measured:
    """Makes a contender's times from those of its blocks.

    blocks   the times of each block, by round
    updates  the weight updates of each of the `width` trials in a block
    """
    share = 1000 / (updates * width)
    batches = tuple(times.batches * share for times in blocks)
    return Measured(who, rule, width, batches, tuple(times.learning * share for times in blocks))


def compared(ours: Measured, other: Measured) -> Spread:
    """The time of an update of `ours`, divided by that of `other` in the same round."""
    return spread(ratios(ours.total, other.total))


def fastest(rows: Sequence[Measured]) -> Measured:
    """The row with the smallest median."""
    return min(rows, key=lambda row: row.median)


def full_speed_from(rows: Sequence[Measured], tolerance: float) -> int | None:
    """The smallest width at and beyond which every stack is within `tolerance` of the fastest.
    None if the widest stack is not: then speed falls again.

    tolerance  a share of the fastest stack's time, compared with the median of ratios in rounds
    """
    best, found = fastest(rows), None
    for row in sorted(rows, key=lambda row: -row.width):
        if compared(row, best).median > 1 + tolerance:
            break
        found = row.width
    return found


class NeededArithmetic(NamedTuple):
    """The arithmetic that a weight update needs at least."""

    multiply_adds: float
    """The number of multiply-adds in its matrix products."""
    sigmoids: float
    """The number of sigmoids, one for each hidden unit and sample where it is activated."""


def count_needed(
    program: Program, widths: Sequence[int], batch: int, entries: float
) -> NeededArithmetic:
    """Counts the multiply-adds and sigmoids of one weight update of one trial.

    program  the operations of the update, each of a layer l
    widths   the number of units of each layer, by l
    batch    the number of samples in the minibatch
    entries  the number of the minibatch's pixels that are multiplied: all, or those that are not 0

    Only matrix products count as multiply-adds. Subtractions and additions, done once for each
    unit, are left out.
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
    return NeededArithmetic(total, sigmoids)


def floor_ms(needed: NeededArithmetic, gflops: float, ns_per_sigmoid: float) -> float:
    """The milliseconds that a core needs for the multiply-adds and then the sigmoids of an update,
    if it does nothing else.

    gflops          the core's rate in a large product, in 1e9 operations per second; a multiply-add
                    is two operations
    ns_per_sigmoid  the core's time for one sigmoid
    """
    return 1e3 * (2 * needed.multiply_adds / (gflops * 1e9)) + 1e-6 * (
        needed.sigmoids * ns_per_sigmoid
    )
