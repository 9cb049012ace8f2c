"""Formats tables and numbers for the terminal, for the reports of the experiments."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table


def numbers_table(corner: str, columns: Sequence[str]) -> Table:
    """A table without rows: a first column for names, and right-aligned columns for numbers."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(corner)
    for column in columns:
        table.add_column(column, justify="right")
    return table


def print_whole(console: Console, table: Table) -> None:
    """Prints a table without cutting a number. What does not fit beside each other on a narrow
    terminal comes below, as a table with the same first column."""
    width = console.width
    for part in _parts(console, table):
        console.width = max(width, _width(console, part))
        console.print(part, soft_wrap=True)
        console.width = width


def _parts(console: Console, table: Table) -> Iterator[Table]:
    """Yields tables that fit, with all columns of this one. Each has the first column."""
    shown = [0]
    for column in range(1, len(table.columns)):
        if len(shown) > 1 and _width(console, _of_columns(table, [*shown, column])) > console.width:
            yield _of_columns(table, shown)
            shown = [0]
        shown.append(column)
    yield _of_columns(table, shown)


def _of_columns(table: Table, chosen: Sequence[int]) -> Table:
    made = Table(
        title=table.title,
        title_justify=table.title_justify,
        title_style=table.title_style,
        box=table.box,
    )
    made.columns = [replace(table.columns[c], _index=place) for place, c in enumerate(chosen)]
    made.rows = table.rows
    return made


def _width(console: Console, table: Table) -> int:
    return Measurement.get(console, console.options.update(max_width=10_000), table).maximum


def with_spread(mean: float, sd: float | None) -> str:
    """Formats a mean and its standard deviation, to two digits of the latter if these are digits of
    the mean, too. It is the mean alone if there is no standard deviation, or if both are 0."""
    if not sd:
        return number(mean) + (" ± 0" if sd == 0 and mean else "")
    if not 0.001 <= mean < 10_000:
        return f"{number(mean)} ± {sd:.1e}"
    decimals = max(0, 1 - math.floor(math.log10(sd)))
    if mean / 1000 <= sd:
        return f"{mean:.{decimals}f} ± {sd:.{decimals}f}"
    return f"{number(mean)} ± {sd:.1e}"


def number(value: float) -> str:
    """Formats a number with about three digits. "0.0" stands for exactly zero and nothing else."""
    if value == 0:
        return "0.0"
    if 0.001 <= value < 10_000:
        return f"{value:.3g}" if value < 100 else f"{value:.0f}"
    return f"{value:.1e}"
