"""Formats tables and numbers for the terminal, for the reports of the experiments."""

from collections.abc import Sequence

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
    """Prints a table in its full width. On a narrow terminal lines wrap, but no number is cut."""
    width = console.width
    console.width = max(width, Measurement.get(console, console.options, table).maximum, 500)
    console.print(table, soft_wrap=True)
    console.width = width


def number(value: float) -> str:
    """Formats a number with about three digits. "0.0" stands for exactly zero and nothing else."""
    if value == 0:
        return "0.0"
    if 0.001 <= value < 10_000:
        return f"{value:.3g}" if value < 100 else f"{value:.0f}"
    return f"{value:.1e}"
