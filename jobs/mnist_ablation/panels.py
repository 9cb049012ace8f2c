"""Arranges the table `divergence` as the panels of Figure 3, for the terminal and the figure."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Literal

from pcworker.row import Row
from pcworker.trials.configuration import Configuration

CellState = Literal["value", "nonfinite", "missing"]


@dataclass(frozen=True)
class Value:
    """The value that one cell of a panel shows."""

    state: CellState
    value: float = 0.0
    """The mean over the finite seeds. It is 0.0 only if the mean is exactly zero."""
    exact: bool = False
    """True if every final weight of every seed equals the twin's, bit for bit."""
    partial: bool = False
    """True if some seeds are left out, because they are missing or not finite."""
    sd: float | None = None
    """The standard deviation over the finite seeds; None for one."""
    row: Row | None = field(default=None, compare=False, repr=False)
    """The row of the table `divergence`; None if no cell was declared at this place."""


@dataclass(frozen=True)
class Grid:
    """One panel for one measure; `values[row][column]`."""

    title: str
    row_name: str
    rows: tuple[str, ...]
    column_name: str
    columns: tuple[str, ...]
    values: tuple[tuple[Value, ...], ...]


OTHER_ZERO = "0 ≠"
"""Stands for a mean of 0 where the weights differ. Only an exact cell shows "0.0"."""
MEASURES = {
    "test_error_divergence": "divergence of the test error (percentage points)",
    "weight_divergence_l2": "divergence of the final weights (sum of L2 distances)",
}

_AXES = ("network", "rule", "t", "t_d", "horizon", "gamma", "sigma")
_SETTINGS = tuple(f.name for f in fields(Configuration) if f.name not in _AXES)
"""The fields of a configuration that are not axes of a panel. Where a sweep has several values of
one, each value has panels of its own."""
_MISSING = Value("missing")


def t_gamma_grids(rows: Sequence[Row], measure: str) -> list[Grid]:
    """One grid for each network (and for each value of other settings, if the sweep has several).

    The rows are t and the columns are gamma. The row t = l stands between l_max - 2 and l_max - 1,
    where the paper draws it.
    """
    grids = []
    for variant, mine in variants(rows, "t-gamma"):
        l_max = mine[0]["hidden_layers"] + 1
        ts = sorted({row["t"] for row in mine}, key=lambda t: l_max - 1.5 if t is None else t)
        gammas = sorted({row["gamma"] for row in mine})
        found = {(row["t"], row["gamma"]): cell_value(row, measure) for row in mine}
        grids.append(
            Grid(
                title=variant,
                row_name="t",
                rows=tuple("l" if t is None else str(t) for t in ts),
                column_name="gamma",
                columns=tuple(map(_label, gammas)),
                values=tuple(tuple(found.get((t, g), _MISSING) for g in gammas) for t in ts),
            )
        )
    return grids


def sigma_grid(rows: Sequence[Row], measure: str) -> Grid | None:
    """The panel of C1, with sigma as rows and networks as columns. None if the sweep has no such
    cells."""
    groups = variants(rows, "sigma")
    if not groups:
        return None
    sigmas = sorted({row["sigma"] for _, mine in groups for row in mine})
    found = {
        (variant, row["sigma"]): cell_value(row, measure)
        for variant, mine in groups
        for row in mine
    }
    names = [variant for variant, _ in groups]
    return Grid(
        title="t = l, gamma = 1",
        row_name="sigma",
        rows=tuple(map(_label, sigmas)),
        column_name="network",
        columns=tuple(names),
        values=tuple(tuple(found.get((n, s), _MISSING) for n in names) for s in sigmas),
    )


def variants(rows: Sequence[Row], panel: str) -> list[tuple[str, Sequence[Row]]]:
    """The rows of a panel in groups of equal network and equal settings, with the groups' names."""
    mine = [row for row in rows if row["panel"] == panel]
    settings = (*_SETTINGS, "sigma") if panel == "t-gamma" else _SETTINGS
    differing = [name for name in settings if len({row[name] for row in mine} - {None}) > 1]
    groups: dict[str, list[Row]] = {}
    for row in sorted(mine, key=lambda row: row["hidden_layers"]):
        name = ", ".join([row["network"], *(f"{n} {row[n]}" for n in differing)])
        groups.setdefault(name, []).append(row)
    return list(groups.items())


def _label(value: float) -> str:
    """A short text for a value. Different values always have different texts."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


def cell_value(row: Row, measure: str) -> Value:
    """The value that a row of the table `divergence` shows for a measure."""
    if row["n_seeds"] == 0:
        return Value("missing", row=row)
    mean = row[f"{measure}_mean"]
    if mean is None:
        return Value("nonfinite", row=row)
    partial = row["n_nonfinite"] > 0 or row["n_seeds"] < len(row["trial_ids"])
    return Value("value", mean, bool(row["exact"]), partial, row[f"{measure}_sd"], row)


def n_seeds(rows: Sequence[Row]) -> int:
    """The largest number of seeds that a cell is declared for."""
    return max((len(row["trial_ids"]) for row in rows), default=0)


def positive(grids: Iterable[Grid]) -> list[float]:
    """All finite values above zero, which a logarithmic scale must span."""
    cells = (cell for grid in grids for line in grid.values for cell in line)
    return [c.value for c in cells if c.state == "value" and 0 < c.value < math.inf]


def colour_range(values: Sequence[float]) -> tuple[float, float]:
    """The ends of a logarithmic scale of colours over these values. It ends at 1000 times the
    median: without this limit, cells that explode would leave no difference of colour to the
    others."""
    if not values:
        return 0.1, 1.0
    median = sorted(values)[len(values) // 2]
    high = min(max(min(max(values), 1000 * median), 1e-200), 1e300)
    return min(max(min(values), high / 1e12), high / 10), high
