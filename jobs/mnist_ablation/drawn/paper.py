"""Draws the panels of Figure 3 one by one, at the width that a paper gives them."""

from collections.abc import Mapping, Sequence
from functools import partial
from math import ceil

from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from cluster.report.drawing import DrawPanel
from jobs.mnist_ablation.drawn.figure import LABELS
from jobs.mnist_ablation.drawn.heatmap import COLOURS, draw_heatmap, heatmap_legend
from jobs.mnist_ablation.panels import (
    Grid,
    colour_range,
    positive,
    sigma_grid,
    t_gamma_grids,
)
from pcworker.row import Row

_SHORT = {"test_error_divergence": "error", "weight_divergence_l2": "weights"}
"""The last word of the panels' names, by measure."""
_CELL, _MARGIN = 0.34, 0.55
"""The inches that a cell of four digits needs, and those for the labels beside a heat map."""
_LINE = 0.19
_LEAST = 0.75
"""The height of a line of cells, and the least height of a heat map, in inches."""
_WIDE = 4.4
"""From this width on, two entries of the legend fit beside each other."""


def ablation_panels(rows: Sequence[Row]) -> Mapping[str, DrawPanel]:
    """The panels that the table `divergence` has, by name."""
    panels: dict[str, DrawPanel] = {}
    for measure, word in _SHORT.items():
        if grids := t_gamma_grids(rows, measure):
            panels[f"t-gamma-{word}"] = partial(_draw, grids, LABELS[measure])
        if grid := sigma_grid(rows, measure):
            panels[f"sigma-{word}"] = partial(_draw, [_turned(grid)], LABELS[measure])
    return panels


def _turned(grid: Grid) -> Grid:
    """The grid with rows and columns exchanged: there are more noises than networks, and a paper's
    column is wide rather than high."""
    return Grid(
        title=grid.title,
        row_name=grid.column_name,
        rows=grid.columns,
        column_name=grid.row_name,
        columns=grid.rows,
        values=tuple(zip(*grid.values, strict=True)),
    )


def _draw(grids: Sequence[Grid], label: str, width: float) -> Figure:
    """Draws heat maps beside and below each other, as many in a line as can be read."""
    columns = max(len(grid.columns) for grid in grids)
    beside = min(len(grids), max(1, int(width / (_CELL * columns + _MARGIN))))
    lines = ceil(len(grids) / beside)
    rows = max(len(grid.rows) for grid in grids)
    legend = heatmap_legend(grids)
    abreast = 2 if width > _WIDE else 1
    high = lines * (max(_LINE * rows, _LEAST) + 0.6) + 0.5 + 0.17 * ceil(len(legend) / abreast)
    figure = Figure(figsize=(width, high), layout="constrained")
    axes = figure.subplots(lines, beside, squeeze=False).ravel()
    norm = LogNorm(*colour_range(positive(grids)), clip=True)
    for axis, grid in zip(axes, grids, strict=False):
        draw_heatmap(axis, grid, norm, size=7)
    for axis in axes[len(grids) :]:
        axis.remove()
    scale = ScalarMappable(norm, COLOURS)
    bar = figure.colorbar(
        scale, ax=list(axes[: len(grids)]), label=f"divergence from BP: {label}",
        location="bottom", extend="max", aspect=12 * width, pad=0.02,
    )  # fmt: skip
    assert bar.solids is not None
    bar.solids.set(rasterized=False, edgecolor="face")  # It would be the only image in the file.
    figure.legend(handles=legend, loc="outside lower center", ncols=abreast, frameon=False)
    return figure
