"""Computes what the terminal shows of the table `networks`: cells over seeds, by network."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev

from pcworker.equations.rules import BP, IL, RULES, Z_IL, label
from pcworker.row import Row

THEIR_RATIOS = {"rnn": 5.67 / 5.64, "resnet18": 12.53 / 12.43, "transformer": 20.53 / 20.43}
"""The time of an update of Z-IL divided by BP's in Table 2 of Salvatori et al. (2022), by the
network here that is likest to theirs. The numbers are second-hand: we have not seen that table."""
THEIR_UNLEVELLED = {"resnet18": 4.53e7}
"""The divergence without identity vertices in their Table 1. It is second-hand, too."""

_METHOD = ("rule", "levelled", "t", "t_d", "gamma", "sigma", "schedule", "arithmetic")
_SETTINGS = (
    "sweep", "network", "cuts", "view", "data", "dtype", "alpha", "reduction", "batch_size",
    "updates", "device_kind", "threads",
)  # fmt: skip


@dataclass(frozen=True)
class MeanAndSd:
    """The mean of a number over seeds and its standard deviation, which one seed does not have."""

    mean: float
    sd: float | None


@dataclass(frozen=True)
class OverSeeds:
    """A cell: one method on one network, over seeds."""

    name: str
    rows: Sequence[Row]

    @property
    def exact(self) -> bool:
        """True if every weight of every seed is BP's, bit for bit."""
        return all(row["exact"] for row in self.rows)

    @property
    def nonfinite(self) -> int:
        """The number of seeds with weights that are not finite."""
        return sum(row["status"] == "nonfinite" for row in self.rows)

    def numbers(self, column: str) -> MeanAndSd | None:
        """The mean of a column over the seeds that have it. None if none has."""
        found = [row[column] for row in self.rows if row[column] is not None]
        if not found:
            return None
        return MeanAndSd(fmean(found), stdev(found) if len(found) > 1 else None)

    def middle(self, column: str) -> float:
        """The median of a column over seeds."""
        return float(median(row[column] for row in self.rows))

    @property
    def must_be_exact(self) -> bool:
        """True if the theorem holds here: Z-IL on a levelled graph, with sigma 0 and gamma 1, in
        the arithmetic that loses no bits. Some graphs are levelled without identity vertices."""
        first = self.rows[0]
        levelled = first["levelled"] or first["identities"] == 0
        kept = first["sigma"] == 0 and first["gamma"] == 1 and levelled
        exact_rule = first["rule"] == Z_IL.name and first["arithmetic"] == "displacement"
        return bool(exact_rule and kept)


@dataclass(frozen=True)
class Compared:
    """A network with all methods that have learnt beside each other. BP is the first."""

    network: str
    cells: Sequence[OverSeeds]

    @property
    def bp(self) -> OverSeeds:
        return self.cells[0]

    def cell(self, name: str) -> OverSeeds | None:
        """The cell of a method, if it is there."""
        return next((cell for cell in self.cells if cell.name == name), None)


def comparisons(rows: Iterable[Row]) -> list[Compared]:
    """The networks that have been trained, each with its cells, in the order of their levels."""
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in rows:
        if row["status"] != "failed":
            groups.setdefault(tuple(row[name] for name in _SETTINGS), []).append(row)
    found = [Compared(mine[0]["network"], _cells(mine)) for mine in groups.values()]
    return sorted(found, key=lambda each: (each.bp.rows[0]["levels"], each.network))


def method_name(row: Row) -> str:
    """The name of a row's method: its rule, and what else distinguishes it."""
    if row["rule"] == BP.name:
        return BP.name
    usual = 1.0 if row["rule"] != IL.name else None  # IL has no usual gamma
    parts = [
        label(row["rule"], row["t"]),
        "literal" if row["schedule"] == "literal" and row["levelled"] and usual else "",
        "" if row["levelled"] else "no identity vertices",
        "" if row["gamma"] == usual else f"gamma {row['gamma']:g}",
        f"sigma {row['sigma']:g}" if row["sigma"] else "",
        "" if row["arithmetic"] == "displacement" else str(row["arithmetic"]),
    ]
    return ", ".join(part for part in parts if part)


def method_names(found: Sequence[Compared]) -> list[str]:
    """The names of all methods but BP, in the order in which they first occur."""
    every = [cell.name for each in found for cell in each.cells if cell is not each.bp]
    return list(dict.fromkeys(every))


def elsewhere(found: Sequence[Compared]) -> list[tuple[Compared, OverSeeds]]:
    """The cells outside the theorem whose weights are finite, nearest to BP first."""
    cells = {
        (place, cell.name): (each, cell, apart.mean)
        for place, each in enumerate(found)
        for cell in each.cells
        if cell is not each.bp
        and not cell.must_be_exact
        and (apart := cell.numbers("weight_l2_to_bp")) is not None
    }
    return [(each, cell) for each, cell, _ in sorted(cells.values(), key=lambda found: found[2])]


def _cells(rows: Sequence[Row]) -> list[OverSeeds]:
    by_method: dict[tuple[object, ...], list[Row]] = {}
    for row in sorted(rows, key=_place):
        by_method.setdefault(tuple(row[name] for name in _METHOD), []).append(row)
    return [OverSeeds(method_name(mine[0]), mine) for mine in by_method.values()]


def _place(row: Row) -> tuple[object, ...]:
    """BP first, then the levelled rules at gamma 1 and sigma 0, then what is broken."""
    rule, broken = row["rule"], bool(row["sigma"])
    usual = row["gamma"] in (None, 1.0)
    return (
        rule != BP.name, rule == IL.name, broken, not usual, row["levelled"] is False,
        list(RULES).index(rule), row["schedule"] == "literal",
        row["t"] or 0, row["gamma"] or 0, row["sigma"] or 0,
    )  # fmt: skip
