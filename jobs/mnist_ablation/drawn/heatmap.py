"""Draws one panel as a heat map of numbers. Both Figure 3 and the panels for papers are made of
these."""

import math
from collections.abc import Iterable, Iterator, Sequence

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.patches import Patch, Rectangle

from jobs.mnist_ablation.panels import Grid, Value

COLOURS = "magma"
_EXACT, _ZERO, _NONFINITE, _MISSING = "#1a9850", "#91cf60", "#bdbdbd", "#ffffff"
_NAMES = {"gamma": r"$\gamma$", "sigma": r"$\sigma$", "t": "t", "network": "hidden layers"}


def draw_heatmap(axis: Axes, grid: Grid, norm: LogNorm, size: float) -> None:
    """Draws a panel. Zeros are green, and cells that are not finite are hatched.

    size  the size of the numbers in the cells, in points
    """
    for y, line in enumerate(grid.values):
        for x, value in enumerate(line):
            _draw_cell(axis, x, y, value, norm, size)
    axis.set_xlim(-0.5, len(grid.columns) - 0.5)
    axis.set_ylim(len(grid.rows) - 0.5, -0.5)
    columns = _labels(grid.column_name, grid.columns)
    turned = 90 if grid.column_name == "network" and columns == list(grid.columns) else 0
    axis.set_xticks(range(len(columns)), columns, rotation=turned)
    axis.set_yticks(range(len(grid.rows)), _labels(grid.row_name, grid.rows))
    axis.set_xlabel(_NAMES[grid.column_name])
    axis.set_ylabel(_NAMES[grid.row_name])
    c1 = "sigma" in (grid.row_name, grid.column_name)
    axis.set_title(r"C1: t = l, $\gamma$ = 1" if c1 else grid.title)
    axis.tick_params(length=0)


def heatmap_legend(grids: Iterable[Grid] | None = None) -> list[Patch]:
    """Explains the cells that are no colour of the scale: all kinds, or those in some panels."""
    explained = {
        "exact": Patch(facecolor=_EXACT, label="0: every weight is BP's, bit for bit"),
        "zero": Patch(facecolor=_ZERO, label="0, but the weights differ"),
        "nonfinite": Patch(
            facecolor=_NONFINITE, hatch="xxx", edgecolor="white", label="non-finite"
        ),
        "missing": Patch(
            facecolor=_MISSING, hatch="...", edgecolor="grey", label="missing (*: some seeds are)"
        ),
    }
    if grids is None:
        return list(explained.values())
    cells = [cell for grid in grids for line in grid.values for cell in line]
    there = {kind for cell in cells for kind in _kinds(cell)}
    return [patch for kind, patch in explained.items() if kind in there]


def _kinds(cell: Value) -> Iterator[str]:
    """Yields the entries of the legend that a cell needs."""
    if cell.state != "value":
        yield cell.state
    elif cell.value == 0:
        yield "exact" if cell.exact else "zero"
    if cell.partial:
        yield "missing"


def _draw_cell(axis: Axes, x: int, y: int, value: Value, norm: LogNorm, size: float) -> None:
    zero = value.state == "value" and value.value == 0
    hatch = "xxx" if value.state == "nonfinite" else "..." if value.state == "missing" else None
    flat = {"nonfinite": _NONFINITE, "missing": _MISSING}.get(
        value.state, _EXACT if value.exact else _ZERO
    )
    shade = float(norm(min(max(value.value, norm.vmin or 0.0), norm.vmax or 1.0)))
    face = flat if zero or hatch else colormaps[COLOURS](shade)
    edge = "grey" if value.state == "missing" else "white"
    axis.add_patch(
        Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=face, edgecolor=edge, hatch=hatch, lw=0.8)
    )
    if value.state == "value":
        text = ("0" if zero else _short_number(value.value)) + ("*" if value.partial else "")
        dark = value.exact if zero else shade < 0.6
        axis.text(
            x, y, text, ha="center", va="center", fontsize=size,
            color="white" if dark else "black", fontweight="bold" if zero else "normal",
        )  # fmt: skip


def _short_number(value: float) -> str:
    """One to three digits, fewer than in the terminal, because a cell of the figure is narrow."""
    if value == math.inf:
        return "inf"
    if 0.01 <= value < 1000:
        return f"{value:.2g}" if value < 100 else f"{value:.0f}"
    mantissa, exponent = f"{value:.0e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def _labels(name: str, values: Sequence[str]) -> list[str]:
    """The texts beside an axis. Networks are named by their number of hidden layers, if these
    numbers differ."""
    if name == "t":
        return [f"t = {each}" if each == "l" else each for each in values]
    short = [_short(each) for each in values] if name == "network" else []
    return short if short and len(set(short)) == len(short) else list(values)


def _short(network: str) -> str:
    """A short name: the network's number of hidden layers, then its other settings."""
    name, *rest = network.split(", ")
    return ", ".join([str(len(name.split("-")) - 2), *rest])
