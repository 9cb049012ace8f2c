"""Turns an answer into text or bytes: for machines with every digit, for people with six."""

import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pcsv
from tabulate import tabulate

from pcworker.errors import InputError
from pcworker.store.parquet import to_parquet
from pcworker.text import printable

FULL = 10**9
"""The number of values of a list that are shown if none is to be left out."""


def cells(answer: pa.Table, longest: int = FULL) -> list[list[str]]:
    """The values as short text, row by row. "0.0" is exactly zero and nothing else.

    longest  the number of values of a list that are shown
    """
    return [[_cell(value, longest) for value in row.values()] for row in _values(answer)]


def is_numeric(kind: pa.DataType) -> bool:
    """True for a column of numbers."""
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )


def to_csv(answer: pa.Table) -> str:
    """A line for each row. A missing value is empty, and a list is JSON."""
    columns = {
        f"{place} {name}": column if _is_flat(column.type) else _texts(column)
        for place, (name, column) in enumerate(
            zip(answer.column_names, answer.columns, strict=True)
        )
    }
    flat = pa.table(columns).rename_columns(answer.column_names)
    sink = io.BytesIO()
    pcsv.write_csv(flat, sink, pcsv.WriteOptions(quoting_style="needed"))
    return sink.getvalue().decode()


def to_json(answer: pa.Table) -> str:
    """A list of objects. JSON has no number that is not finite: NaN and Infinity are texts."""
    rows = [json.dumps(plain(row), default=str) for row in _values(answer)]
    return "[" + ",\n ".join(rows) + "]\n"


def to_markdown(answer: pa.Table) -> str:
    """A table of Markdown."""
    rows = [[cell.replace("|", "\\|") for cell in row] for row in cells(answer)]
    return _tabulated(answer, rows, "pipe")


def to_latex(answer: pa.Table) -> str:
    """A table for the LaTeX package booktabs. A missing value is a dash."""
    rows = [["--" if cell == "null" else cell for cell in row] for row in cells(answer)]
    sides = "".join("r" if is_numeric(kind) else "l" for kind in answer.schema.types)
    made: str = pd.DataFrame(rows, columns=answer.column_names).to_latex(
        index=False, escape=True, column_format=sides
    )
    return made


def to_text(answer: pa.Table, longest: int = FULL) -> str:
    """A table of plain text, in its full width.

    longest  the number of values of a list that are shown
    """
    return _tabulated(answer, cells(answer, longest), "simple")


WRITERS: Mapping[str, Callable[[pa.Table], str | bytes]] = {
    "table": to_text,
    "csv": to_csv,
    "json": to_json,
    "parquet": to_parquet,
    "markdown": to_markdown,
    "latex": to_latex,
}
"""What makes a file of an answer, by the format's name."""


def _tabulated(answer: pa.Table, rows: Sequence[Sequence[str]], kind: str) -> str:
    sides = ["right" if is_numeric(kind) else "left" for kind in answer.schema.types]
    text = tabulate(rows, answer.column_names, kind, disable_numparse=True, colalign=sides)
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def _cell(value: Any, longest: int) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return "0.0" if value == 0 else f"{value:.6g}"
    if isinstance(value, list):
        shown = [_cell(each, longest) for each in value[:longest]]
        more = [f"... {len(value):,} values"] if len(value) > longest else []
        return f"[{', '.join([*shown, *more])}]"
    return " ".join(printable(str(value)).split())


def _values(of: pa.Table | pa.ChunkedArray) -> list[Any]:
    """The rows or values for Python, whose dates end with the year 9999."""
    try:
        found: list[Any] = of.to_pylist()
    except (OverflowError, ValueError) as error:
        raise InputError(
            f"a date of the answer cannot be shown ({error}); cast it in SQL, as in "
            "CAST(d AS VARCHAR)"
        ) from error
    return found


def _is_flat(kind: pa.DataType) -> bool:
    return is_numeric(kind) or kind in (pa.string(), pa.bool_())


def _texts(column: pa.ChunkedArray) -> pa.Array:
    """The values as JSON."""
    made = [
        None if each is None else json.dumps(plain(each), default=str) for each in _values(column)
    ]
    return pa.array(made, pa.string())


def plain(value: Any) -> Any:
    """The value with the texts NaN, Infinity and -Infinity instead of the floats that JSON does not
    have."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(value)]
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return value
