"""Draws a residual block and two time steps of an LSTM, before and after levelling.

The vertices, their levels and the identity vertices are those of the real graphs. This writes the
picture on the experiment's page:

    python -m jobs.any_network.shown.levelling infra/figures/levelling.png
"""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import click
import matplotlib

matplotlib.use("Agg")
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from torch import nn

from jobs.options import help_text, main
from pcworker.networks.graph.divide import divided
from pcworker.networks.graph.structure import Graph, Use
from pcworker.networks.zoo.convolutional import ResidualBlock
from pcworker.networks.zoo.recurrent import ManyToOneLstm

_BLUE, _ORANGE, _GREY = "#1f5fa8", "#d1730b", "#777777"
_BLOCK = {
    "_1": ("x", 0), "relu": ("ReLU(conv)", 0), "relu_1": ("ReLU(x + conv)", 0), "_4": ("output", 0),
}  # fmt: skip
_STEPS = {
    "enter": ("W x1", 0), "mul": ("c1", 0), "again": ("U h1", 0), "enter_1": ("W x2", -1),
    "add": ("gates 2", 0), "add_1": ("c2", 0), "again_1": ("U h2", 0), "enter_2": ("W x3", -1),
    "last": ("output", 0),
}  # fmt: skip
"""What is written at a vertex, and on which line it stands, by the vertex's name."""
Labels = Mapping[str, tuple[str, int]]
_Point = tuple[float, float]


def residual_block() -> Graph:
    """A residual block between a convolution and a linear layer, cut after its ReLUs."""
    block = ResidualBlock(4, 4)
    parts = (nn.Conv2d(1, 4, 3), nn.ReLU(), block, nn.Flatten(), nn.Linear(4, 3))
    return divided(nn.Sequential(*parts), ["_1", "relu", "relu_1"]).graph


def two_time_steps() -> Graph:
    """Two time steps of an LSTM, and the third one, whose cell is inside of the output's vertex."""
    return divided(ManyToOneLstm(3, 3, 2, width=2), None).graph


def levelling_drawn(kind: str = "png") -> bytes:
    """The picture, as the bytes of a file of that kind."""
    figure = Figure(figsize=(12, 5), dpi=110, layout="constrained")
    axes = figure.subplots(2, 2, squeeze=False)
    rows = (
        ("A residual block", residual_block(), _BLOCK),
        ("Time steps of an LSTM", two_time_steps(), _STEPS),
    )
    for row, (title, graph, words) in zip(axes, rows, strict=True):
        for axis, levelled in zip(row, (False, True), strict=True):
            count = sum(map(graph.delay, graph.uses))
            how = f"levelled by {count} identity vertices" if levelled else "as it is"
            axis.set_title(f"{title}, {how}".replace("1 identity vertices", "1 identity vertex"))
            _draw(axis, graph, words, levelled)
    figure.supxlabel(
        "The number of a vertex is the inference step t at which its error is used.", size=10
    )
    file = BytesIO()
    figure.savefig(file, format=kind)
    return file.getvalue()


def _draw(axis: Axes, graph: Graph, labels: Labels, levelled: bool) -> None:
    """The output is at the right, and a vertex stands above its level."""
    levels = graph.levels if levelled else graph.shortest
    at = {name: (-graph.levels[name], labels[name][1]) for name in graph.vertices}
    lines: list[tuple[float, float]] = []
    for use in _longest_first(graph):
        line = _free_line(lines, at[use.parent][0], at[use.child][0]) if graph.delay(use) else 0
        _edge(axis, at[use.parent], at[use.child], graph.delay(use) if levelled else None, line)
    for name, (x, y) in at.items():
        axis.plot(x, y, "o", markersize=15, color=_BLUE, zorder=3)
        axis.text(x, y - 0.3, labels[name][0], ha="center", va="top", fontsize=9, color=_BLUE)
        axis.text(x, y, str(levels[name]), ha="center", va="center", color="white", zorder=4)
    axis.set_xlim(-max(graph.levels.values()) - 0.6, 0.6)
    axis.set_ylim(min(y for _, y in at.values()) - 0.7, 1.6)
    axis.set_axis_off()


def _longest_first(graph: Graph) -> list[Use]:
    """One use for each two vertices, those first that are farthest apart."""
    pairs = {(use.parent, use.child): use for use in graph.uses}
    return sorted(pairs.values(), key=graph.delay, reverse=True)


def _free_line(lines: list[tuple[float, float]], left: float, right: float) -> int:
    """The number of the line above the vertices on which an edge goes past others."""
    crossed = sum(left < end and start < right for start, end in lines)
    lines.append((left, right))
    return 1 + crossed


def _edge(axis: Axes, start: _Point, end: _Point, identities: int | None, line: int) -> None:
    """An edge through its identity vertices; identities is None in a graph that is not levelled."""
    if not line:
        _arrow(axis, start, end, _GREY)
        return
    height = 0.25 + 0.55 * line
    inner = [(start[0] + n, height) for n in range(1, int(end[0] - start[0]))]
    if identities is None:
        _arrow(axis, start, end, _ORANGE, bend=-0.28 - 0.12 * line)
        return
    for one, other in zip([start, *inner], [*inner, end], strict=True):
        _arrow(axis, one, other, _ORANGE)
    for x, y in inner:
        axis.plot(x, y, "o", markersize=13, color="white", markeredgecolor=_ORANGE, zorder=3)
        level = round(-x)
        axis.text(x, y, str(level), ha="center", va="center", fontsize=9, color=_ORANGE, zorder=4)


def _arrow(axis: Axes, start: _Point, end: _Point, colour: str, bend: float = 0.0) -> None:
    axis.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=12,
            shrinkA=8,
            shrinkB=8,
            color=colour,
            linewidth=1.4,
            connectionstyle=f"arc3,rad={bend}",
        )
    )


@click.command(help=help_text(__doc__))
@click.argument("file", type=click.Path(path_type=Path))
def command(file: Path) -> int:
    """Draws the picture into a file, whose suffix is its kind."""
    file.write_bytes(levelling_drawn(file.suffix.removeprefix(".")))
    return 0


if __name__ == "__main__":
    main(command)
