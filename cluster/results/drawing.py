"""Figures as files."""

import io
from typing import Any


def saved(figure: Any, kind: str) -> bytes:
    """A figure as the bytes of a file: "png" or "svg"."""
    sink = io.BytesIO()
    # no date: the same table gives the same file
    figure.savefig(sink, format=kind, dpi=160, metadata={"Date": None} if kind == "svg" else None)
    return sink.getvalue()
