"""Draws Figure 3 of the paper, heat maps of divergence, from the table `divergence`."""

from collections.abc import Sequence

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm

from cluster.report.drawing import saved
from jobs.mnist_ablation.drawn.heatmap import COLOURS, draw_heatmap, heatmap_legend
from jobs.mnist_ablation.panels import (
    MEASURES,
    Grid,
    colour_range,
    n_seeds,
    positive,
    sigma_grid,
    t_gamma_grids,
)
from pcworker.row import Row
from pcworker.text import counted

LABELS = {
    "test_error_divergence": "test error (pp)",
    "weight_divergence_l2": "final weights (L2)",
}


def draw_figure3(rows: Sequence[Row]) -> dict[str, bytes]:
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
                draw_heatmap(axis, grid, norm, size=6.5)
            colours = ScalarMappable(norm, COLOURS)
            figure.colorbar(colours, ax=list(line), label=LABELS[measure], pad=0.01, extend="max")
        seeds = counted(n_seeds(rows), "seed")
        figure.suptitle(f"Divergence from backpropagation (mean over {seeds})")
        figure.legend(
            handles=heatmap_legend(),
            loc="outside lower center",
            ncols=4 if width > 1 else 1,
            frameon=False,
        )
        files = {kind: saved(figure, kind) for kind in ("png", "svg")}
        plt.close(figure)
    return files


def _grids(rows: Sequence[Row], measure: str) -> list[Grid]:
    sigma = sigma_grid(rows, measure)
    return [*t_gamma_grids(rows, measure), *([sigma] if sigma else [])]
