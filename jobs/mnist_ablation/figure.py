"""Draws Figure 3 of the paper, heat maps of divergence, from the table `divergence`."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.patches import Patch, Rectangle

from cluster.report.drawing import saved
from jobs.mnist_ablation.panels import (
    MEASURES,
    Grid,
    Value,
    colour_range,
    n_seeds,
    positive,
    sigma_grid,
    t_gamma_grids,
)

EXACT, ZERO, NONFINITE, MISSING = "#1a9850", "#91cf60", "#bdbdbd", "#ffffff"
LABELS = {
    "test_error_divergence": "test error (pp)",
    "weight_divergence_l2": "final weights (L2)",
}


def draw_figure3(rows: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
    """Draws the figure as {"png": ..., "svg": ...}. The result is empty if there is no panel.

    Each row of panels shows one measure. The columns are one heat map of t x gamma per network, and
    then C1. The colours are logarithmic; zeros are green and non-finite cells are hatched.
    """
    grids = {measure: _grids(rows, measure) for measure in MEASURES}
    width = len(next(iter(grids.values())))
    if width == 0:
        return {}
    widths = [max(3.1, 0.5 * len(grid.columns)) for grid in grids["weight_divergence_l2"]]
    with plt.rc_context({"font.size": 8, "svg.hashsalt": "zilsweep", "svg.fonttype": "none"}):
        figure, axes = plt.subplots(
            len(grids),
            width,
            figsize=(sum(widths) + 1.2, 7.2),
            squeeze=False,
            layout="constrained",
            width_ratios=widths,
        )
        for line, (measure, panels) in zip(axes, grids.items(), strict=True):
            norm = LogNorm(*colour_range(positive(panels)), clip=True)
            for axis, grid in zip(line, panels, strict=True):
                _draw(axis, grid, norm)
            colours = ScalarMappable(norm, "magma")
            figure.colorbar(colours, ax=list(line), label=LABELS[measure], pad=0.01, extend="max")
        figure.suptitle(f"Divergence from backpropagation (mean over {n_seeds(rows)} seed(s))")
        figure.legend(
            handles=_legend(),
            loc="outside lower center",
            ncols=4 if width > 1 else 1,
            frameon=False,
        )
        files = {kind: saved(figure, kind) for kind in ("png", "svg")}
        plt.close(figure)
    return files


def _grids(rows: Sequence[Mapping[str, Any]], measure: str) -> list[Grid]:
    sigma = sigma_grid(rows, measure)
    return [*t_gamma_grids(rows, measure), *([sigma] if sigma else [])]


def _draw(axis: Axes, grid: Grid, norm: LogNorm) -> None:
    for y, line in enumerate(grid.values):
        for x, value in enumerate(line):
            _draw_cell(axis, x, y, value, norm)
    axis.set_xlim(-0.5, len(grid.columns) - 0.5)
    axis.set_ylim(len(grid.rows) - 0.5, -0.5)
    axis.set_xticks(range(len(grid.columns)), grid.columns)
    axis.set_yticks(range(len(grid.rows)), [f"t = {r}" if r == "l" else r for r in grid.rows])
    if grid.row_name == "sigma":
        short = [_short(name) for name in grid.columns]
        if len(set(short)) == len(short):
            axis.set_xticks(range(len(short)), short)
        else:
            axis.set_xticks(range(len(short)), grid.columns, rotation=90)
    names = {"gamma": r"$\gamma$", "sigma": r"$\sigma$", "t": "t", "network": "hidden layers"}
    axis.set_xlabel(names[grid.column_name])
    axis.set_ylabel(names[grid.row_name])
    axis.set_title(r"C1: t = l, $\gamma$ = 1" if grid.row_name == "sigma" else grid.title)
    axis.tick_params(length=0)


def _draw_cell(axis: Axes, x: int, y: int, value: Value, norm: LogNorm) -> None:
    zero = value.state == "value" and value.value == 0
    hatch = "xxx" if value.state == "nonfinite" else "..." if value.state == "missing" else None
    flat = {"nonfinite": NONFINITE, "missing": MISSING}.get(
        value.state, EXACT if value.exact else ZERO
    )
    shade = float(norm(min(max(value.value, norm.vmin or 0.0), norm.vmax or 1.0)))
    face = flat if zero or hatch else plt.get_cmap("magma")(shade)
    edge = "grey" if value.state == "missing" else "white"
    axis.add_patch(
        Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=face, edgecolor=edge, hatch=hatch, lw=0.8)
    )
    if value.state == "value":
        text = ("0" if zero else _short_number(value.value)) + ("*" if value.partial else "")
        dark = zero or shade < 0.6
        axis.text(
            x, y, text, ha="center", va="center", fontsize=6.5, color="white" if dark else "black",
            fontweight="bold" if zero else "normal",
        )  # fmt: skip


def _short_number(value: float) -> str:
    """One to three digits, fewer than in the terminal, because a cell of the figure is narrow."""
    if value == math.inf:
        return "inf"
    if 0.01 <= value < 1000:
        return f"{value:.2g}" if value < 100 else f"{value:.0f}"
    mantissa, exponent = f"{value:.0e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def _short(network: str) -> str:
    """A short name for a column: the network's number of hidden layers, then its other settings."""
    name, *rest = network.split(", ")
    return ", ".join([str(len(name.split("-")) - 2), *rest])


def _legend() -> list[Patch]:
    return [
        Patch(facecolor=EXACT, label="0: every weight is BP's, bit for bit"),
        Patch(facecolor=ZERO, label="0, but the weights differ"),
        Patch(facecolor=NONFINITE, hatch="xxx", edgecolor="white", label="non-finite"),
        Patch(
            facecolor=MISSING, hatch="...", edgecolor="grey", label="missing (*: some seeds are)"
        ),
    ]
