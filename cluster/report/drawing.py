"""Turns figures into files."""

import io
from typing import Any


def saved(figure: Any, kind: str) -> bytes:
    """Renders a Matplotlib figure as the bytes of a file.

    kind  "png" or "svg"
    """
    sink = io.BytesIO()
    # An SVG would hold the date. Without it the same table gives the same file.
    figure.savefig(sink, format=kind, dpi=160, metadata={"Date": None} if kind == "svg" else None)
    return sink.getvalue()
