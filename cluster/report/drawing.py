"""Turns figures into files."""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DrawPanel = Callable[[float], "Figure"]
"""A function that draws one panel at a width in inches, and returns a Matplotlib figure."""
FOR_PAPERS: dict[Any, Any] = {
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.linewidth": 0.5,
    "figure.facecolor": "white",
    "hatch.linewidth": 0.4,
    "legend.fontsize": 7,
    "lines.linewidth": 1,
    "pdf.fonttype": 42,  # TrueType, which a PDF file embeds and publishers accept
    "svg.fonttype": "path",  # An SVG file embeds no fonts, so the letters are drawn.
    "svg.hashsalt": "zilsweep",
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
}
"""Matplotlib's settings for a figure in a paper. The sizes are points, at the figure's width."""
_DATES = {"svg": "Date", "pdf": "CreationDate"}
"""The field of a file's metadata that would hold the date. Without it the same table gives the same
file."""


def saved(figure: Any, kind: str, dots_per_inch: int = 160) -> bytes:
    """Renders a Matplotlib figure as the bytes of a file.

    kind  "png", "svg" or "pdf"
    """
    sink = io.BytesIO()
    metadata = {_DATES[kind]: None} if kind in _DATES else None
    figure.savefig(sink, format=kind, dpi=dots_per_inch, metadata=metadata)
    return sink.getvalue()


def drawn_for_paper(draw: DrawPanel, width: float, kind: str) -> bytes:
    """Draws a panel with the fonts and lines of print, and renders it as the bytes of a file.

    width  in inches
    """
    import matplotlib  # It takes a while to import.

    with matplotlib.rc_context(FOR_PAPERS):
        return saved(draw(width), kind, dots_per_inch=600)
