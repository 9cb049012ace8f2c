"""Draws Table 4 as a figure: the cost of each rule relative to BP, by network, depth and steps."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from cluster.report.drawing import DrawPanel, saved
from jobs.imagenet_timing.shown.views import (
    Run,
    by_steps,
    method,
    methods,
    name_in,
    paper,
    ratio_by_method,
    runs,
    series,
)

_MARKS = "os^Dv<>P"
_UPRIGHT = 0.3
"""Bars that are narrower, in inches, have their numbers turned."""
_ENTRY = 1.3
"""The inches that an entry of the legend needs."""


def draw_table4(rows: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
    """Draws the figure as {"png": ..., "svg": ...}. The result is empty if nothing has been timed.

    The left panel shows the ratio to BP by network and rule: the median and the 10th to 90th
    percentile, with the paper's ratios as diamonds. Two more panels show the ratio by the depth of
    the networks and by the steps of IL, if several were timed.
    """
    found = runs(rows)
    if not found:
        return {}
    deep = len({run.layers for run in found}) > 1
    stepping = [run for run in found if by_steps(run)]
    names = methods(found)
    bars = max(5.0, 0.32 * len(names) * len(found) + 1.5)
    widths = [bars, *([3.6] if deep else []), *([3.6] if stepping else [])]
    with plt.rc_context({"font.size": 8, "svg.hashsalt": "zilsweep", "svg.fonttype": "none"}):
        figure, axes = plt.subplots(
            1,
            len(widths),
            figsize=(sum(widths) + 0.6, 4.4),
            squeeze=False,
            layout="constrained",
            width_ratios=widths,
        )
        left, *others = axes[0]
        colours = _colours(names)
        _bars(left, found, colours, size=6)
        if deep:
            _depth(others.pop(0), found, colours)
        if stepping:
            _steps(others.pop(0), stepping)
        figure.suptitle("Time of a weight update, as a multiple of backpropagation's")
        _legend(figure, colours, abreast=4)
        files = {kind: saved(figure, kind) for kind in ("png", "svg")}
        plt.close(figure)
    return files


def timing_panels(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, DrawPanel]:
    """The panels that the table `timings` has, by name, for papers."""
    found = runs(rows)
    if not found:
        return {}
    panels: dict[str, DrawPanel] = {"rules": partial(_rules_panel, found)}
    if len({run.layers for run in found}) > 1:
        panels["depth"] = partial(_depth_panel, found)
    if stepping := [run for run in found if by_steps(run)]:
        panels["steps"] = partial(_steps_panel, stepping)
    return panels


def _rules_panel(found: Sequence[Run], width: float) -> Figure:
    colours = _colours(methods(found))
    figure, axis = _paper(width)
    narrow = width / (len(found) * len(colours)) < _UPRIGHT
    _bars(axis, found, colours, size=7, rotation=90 if narrow else 0)
    _legend(figure, colours, abreast=max(1, int(width / _ENTRY)))
    return figure


def _depth_panel(found: Sequence[Run], width: float) -> Figure:
    colours = _colours(methods(found))
    figure, axis = _paper(width)
    _depth(axis, found, colours)
    axis.set_ylabel("ratio to BP")
    _legend(figure, colours, abreast=max(1, int(width / _ENTRY)), told=False)
    return figure


def _steps_panel(found: Sequence[Run], width: float) -> Figure:
    figure, axis = _paper(width)
    _steps(axis, found)
    axis.set_ylabel("ratio to BP")
    return figure


def _paper(width: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, max(2.4, 0.55 * width)), layout="constrained")
    return figure, figure.subplots()


def _colours(names: Sequence[str]) -> dict[str, Any]:
    palette = plt.get_cmap("tab10" if len(names) <= 10 else "tab20")
    return dict(zip(names, palette.colors * 3, strict=False))  # type: ignore[attr-defined]


def _legend(figure: Figure, colours: Mapping[str, Any], abreast: int, told: bool = True) -> None:
    """Names the methods, and the diamonds if the paper's ratios are `told`."""
    known = Line2D([], [], ls="", marker="D", mfc="white", mec="black", ms=4)
    figure.legend(
        [*(Patch(facecolor=colour) for colour in colours.values()), *([known] if told else [])],
        [*colours, *(["paper, Table 4"] if told else [])],
        loc="outside lower center",
        ncols=abreast,
        frameon=False,
    )


def _bars(
    axis: Axes,
    found: Sequence[Run],
    colours: Mapping[str, Any],
    size: float,
    rotation: float = 0,
) -> None:
    """Draws the ratios as bars. The numbers above them have this size, in points."""
    width = 0.86 / len(colours)
    told = []
    for place, run in enumerate(found):
        by_method = {method(row): row for row in run.rows}
        for k, name in enumerate(colours):
            if (row := by_method.get(name)) is None:
                continue
            x, height = place - 0.43 + (k + 0.5) * width, row["ratio_to_bp_median"]
            spread = [[height - row["ratio_to_bp_p10"]], [row["ratio_to_bp_p90"] - height]]
            axis.bar(x, height, width * 0.94, color=colours[name])
            axis.errorbar(x, height, spread, fmt="none", ecolor="black", lw=0.8, capsize=2)
            top = row["ratio_to_bp_p90"]
            if known := paper(row):
                told.append((x, known.ratio))
                if 0.9 * top < known.ratio < 1.3 * top:  # the diamond would cover the number
                    top = max(top, 1.05 * known.ratio)
            axis.text(
                x, top * 1.05, f"{height:.2f}", ha="center", va="bottom", fontsize=size,
                rotation=rotation,
            )  # fmt: skip
    axis.plot(*zip(*told, strict=True), "D", mfc="white", mec="black", ms=4)
    axis.set_xticks(range(len(found)), [name_in(run, found).replace(" (", "\n(") for run in found])
    axis.set_ylabel("ratio to BP")
    _logarithmic(axis, room=2.2 if rotation else 1.3)


def _depth(axis: Axes, found: Sequence[Run], colours: Mapping[str, Any]) -> None:
    for together in series(found):
        ratios = [(run.layers, ratio_by_method(run)) for run in together]
        for name, colour in colours.items():
            points = [(layers, mine[name]) for layers, mine in ratios if name in mine]
            if points:
                axis.plot(*zip(*points, strict=True), "o-", color=colour, ms=3, lw=1)
    axis.set_xlabel("layers of weights")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_title("by depth")
    _logarithmic(axis)


def _steps(axis: Axes, found: Sequence[Run]) -> None:
    for place, run in enumerate(found):
        mark = _MARKS[place % len(_MARKS)]
        axis.plot(*zip(*by_steps(run), strict=True), f"{mark}-", ms=3, lw=1, color="0.3")
    marks = [Line2D([], [], marker=_MARKS[k % len(_MARKS)], color="0.3", ms=3, lw=1)
             for k in range(len(found))]  # fmt: skip
    axis.legend(marks, [name_in(run, found) for run in found], frameon=False)
    axis.set_ylim(bottom=0)
    axis.set_xlim(left=0)
    axis.set_xlabel("inference steps of IL")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_title("by t")


def _logarithmic(axis: Axes, room: float = 1.3) -> None:
    """Makes the ratios logarithmic, with room above the highest by this factor."""
    axis.set_yscale("log")
    low, high = axis.get_ylim()
    axis.set_ylim(min(low, 0.7), high * room)
    axis.axhline(1.0, color="0.5", lw=0.6, ls=":")
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(
        FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "25" else "")
    )
