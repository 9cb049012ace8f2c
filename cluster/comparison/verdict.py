"""Decides, from what two sweeps say, which cells are equal and by how much the others differ."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from cluster.comparison.side import CellKey, Numbers, Side, TrialOutcome


@dataclass(frozen=True)
class Summary:
    """A measure of one cell in one sweep."""

    n: int
    """The number of finite values."""
    of: int
    """The number of values."""
    mean: float | None
    """None if no value is finite."""
    sd: float | None
    """The standard deviation of the sample. None if fewer than two values are finite."""


@dataclass(frozen=True)
class Apart:
    """A measure that differs between the two sweeps in one cell."""

    measure: str
    """The table and the column: "epochs.test_error"."""
    a: Summary
    b: Summary

    @property
    def difference(self) -> float | None:
        """The mean in B minus the mean in A. None if one of them has no finite value."""
        return None if self.a.mean is None or self.b.mean is None else self.b.mean - self.a.mean

    @property
    def ratio(self) -> float | None:
        """The mean in B divided by the mean in A."""
        return self.b.mean / self.a.mean if self.a.mean and self.b.mean is not None else None

    @property
    def in_spreads(self) -> float | None:
        """The difference divided by the pooled standard deviation over the seeds. It is infinite if
        no value of a sweep differs from another one of it, and None if each has only one."""
        difference, spread = self.difference, _pooled(self.a, self.b)
        if difference is None or spread is None:
            return None
        if spread == 0:
            return math.copysign(math.inf, difference) if difference else 0.0
        return difference / spread

    @property
    def size(self) -> tuple[float, float]:
        """What differences are sorted by: the spreads, and then the share of the larger mean. A
        measure that is finite in only one of the sweeps comes before all others."""
        if self.difference is None:
            return math.inf, math.inf
        largest = max(abs(self.a.mean or 0.0), abs(self.b.mean or 0.0))
        return abs(self.in_spreads or 0.0), abs(self.difference) / largest if largest else 0.0


@dataclass(frozen=True)
class CellVerdict:
    """The comparison of a cell that both sweeps have."""

    key: CellKey
    seeds: tuple[int, ...]
    """The seeds of which both have a result."""
    only_a: tuple[int, ...]
    """The seeds of which only A has a result."""
    only_b: tuple[int, ...]
    differing: Mapping[str, int]
    """By table, the number of common seeds whose results in it differ in at least one bit."""
    apart: tuple[Apart, ...]
    """The measures that differ, the largest difference first. They are taken over the common seeds,
    or over all seeds if none is common."""
    measured: tuple[Apart, ...]
    """The times and the memory, which are compared as ratios and decide nothing."""
    weights_apart: float | None = None
    """The largest absolute difference of a final weight over the common seeds. None if no weight
    differs, or if the values are not known: see `cluster.comparison.weights`."""

    @property
    def is_equal(self) -> bool:
        """True if both have the same seeds, and all results are equal bit for bit."""
        return bool(self.seeds) and not (self.only_a or self.only_b or self.differing)

    @property
    def size(self) -> tuple[float, float]:
        """What cells are sorted by."""
        return self.apart[0].size if self.apart else (0.0, 0.0)


@dataclass(frozen=True)
class SweepVerdict:
    """The comparison of two sweeps."""

    a: Side
    b: Side
    cells: tuple[CellVerdict, ...]
    """The cells that both have, the largest difference first."""
    only_a: tuple[CellKey, ...]
    """The cells of which only A has a result."""
    only_b: tuple[CellKey, ...]

    @property
    def differing(self) -> tuple[CellVerdict, ...]:
        """The cells of both that are not equal."""
        return tuple(cell for cell in self.cells if not cell.is_equal)

    @property
    def is_equal(self) -> bool:
        """True if both have a result of each trial, of the same trials, with the same bits."""
        holes = self.a.missing or self.b.missing or self.only_a or self.only_b
        return bool(self.cells) and not holes and not self.differing


def compare_sides(a: Side, b: Side) -> SweepVerdict:
    """Compares two sweeps. A cell of one is that of the other with the same fields."""
    cells = [_cell(each, a.cells[each], b.cells[each]) for each in a.cells if each in b.cells]
    return SweepVerdict(
        a=a,
        b=b,
        cells=tuple(sorted(cells, key=lambda cell: cell.size, reverse=True)),
        only_a=tuple(each for each in a.cells if each not in b.cells),
        only_b=tuple(each for each in b.cells if each not in a.cells),
    )


def _cell(
    key: CellKey, a: Mapping[int, TrialOutcome], b: Mapping[int, TrialOutcome]
) -> CellVerdict:
    seeds = sorted(a.keys() & b.keys())
    mine = [a[seed] for seed in seeds or a]
    others = [b[seed] for seed in seeds or b]
    pairs = list(zip(mine, others, strict=True)) if seeds else []
    differing = {
        table: count
        for table in next(iter(a.values())).digests
        if (count := sum(one.digests[table] != two.digests[table] for one, two in pairs))
    }
    numbers = _apart([each.numbers for each in mine], [each.numbers for each in others])
    apart = [each for each, is_equal in numbers if not is_equal]
    measured = _apart([each.measured for each in mine], [each.measured for each in others])
    return CellVerdict(
        key=key,
        seeds=tuple(seeds),
        only_a=tuple(sorted(a.keys() - b.keys())),
        only_b=tuple(sorted(b.keys() - a.keys())),
        differing=differing,
        apart=tuple(sorted(apart, key=lambda each: each.size, reverse=True)),
        measured=tuple(each for each, _ in measured),
    )


def _apart(a: Sequence[Numbers], b: Sequence[Numbers]) -> Iterable[tuple[Apart, bool]]:
    """Yields each measure, and whether all of its values are equal bit for bit."""
    for measure in a[0]:
        if measure in b[0]:
            mine = [each.get(measure) for each in a]  # A trial may have no row in a table.
            others = [each.get(measure) for each in b]
            both = Apart(measure, _summary(mine), _summary(others))
            yield both, list(map(repr, mine)) == list(map(repr, others))


def _summary(values: Sequence[float | None]) -> Summary:
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return Summary(
        n=len(finite),
        of=len(values),
        mean=mean(finite) if finite else None,
        sd=stdev(finite) if len(finite) > 1 else None,
    )


def _pooled(a: Summary, b: Summary) -> float | None:
    """The standard deviation of both samples around their own means. None if neither has two
    values."""
    freedom = max(a.n - 1, 0) + max(b.n - 1, 0)
    if not freedom:
        return None
    shares = (math.sqrt(max(each.n - 1, 0) / freedom) * (each.sd or 0.0) for each in (a, b))
    return math.hypot(*shares)
