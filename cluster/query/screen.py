"""Shows an answer on a terminal, as wide as that is."""

from collections.abc import Iterator

import pyarrow as pa
from rich import box
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.rule import Rule
from rich.table import Table

from cluster.query.formats import cells, is_numeric

MOST_LINES = 500
"""A terminal is shown about so many lines of an answer."""
_UNBOUNDED = 10**6
"""The width of a terminal on which every table fits."""
_SHORT = 4
"""The number of values of a list that are shown."""


def print_answer(console: Console, answer: pa.Table) -> None:
    """Prints an answer as a table if its columns fit side by side, and otherwise one row after the
    other, with a line for each value."""
    if not answer.column_names:
        return
    table = _side_by_side(answer.slice(0, MOST_LINES))
    shown = min(len(answer), MOST_LINES)
    made: RenderableType = table
    free = console.options.update(width=_UNBOUNDED)
    if Measurement.get(console, free, table).minimum > console.width:
        shown = min(len(answer), max(1, MOST_LINES // len(answer.column_names)))
        made = Group(*_one_by_one(answer.slice(0, shown)))
    console.print(made)
    if shown < len(answer):
        console.print(f"{shown} of {len(answer):,} rows; a pipe or --format csv gives all of them")


def _side_by_side(answer: pa.Table) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for name, kind in zip(answer.column_names, answer.schema.types, strict=True):
        table.add_column(name, justify="right" if is_numeric(kind) else "left")
    for row in cells(answer, _SHORT):
        table.add_row(*row)
    return table


def _one_by_one(answer: pa.Table) -> Iterator[RenderableType]:
    for number, row in enumerate(cells(answer, _SHORT), 1):
        yield Rule(f"row {number}", align="left")
        record = Table(box=None, show_header=False, pad_edge=False)
        record.add_column(no_wrap=True)
        record.add_column(overflow="fold")
        for name, value in zip(answer.column_names, row, strict=True):
            record.add_row(name, value)
        yield record
