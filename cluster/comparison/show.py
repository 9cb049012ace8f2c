"""Shows a comparison: as tables on the terminal, and as one page of HTML that needs no network."""

from collections.abc import Sequence
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from rich.console import Console

from cluster.comparison.facts import (
    ONE_BIT,
    cell_texts,
    naming_fields,
    remarks_of,
    summary_lines,
)
from cluster.comparison.verdict import Apart, CellVerdict, Summary, SweepVerdict
from cluster.report.terminal import number, numbers_table, print_whole
from pcworker.errors import InputError
from pcworker.text import counted

SPREAD = (
    "A difference in spreads is the difference of the means (B - A) divided by the pooled standard "
    "deviation over the seeds. It is inf if the seeds of each sweep all agree, and - if each sweep "
    "has one seed."
)
_LONGEST = 40
"""The number of cells that a table on the terminal shows at most."""


class TextTable(NamedTuple):
    """A table as texts."""

    title: str
    head: Sequence[str]
    lines: Sequence[Sequence[str]]


def print_comparison(console: Console, verdict: SweepVerdict) -> None:
    """Prints what was found, and then the largest differences first."""
    for line in summary_lines(verdict):
        console.print(line, soft_wrap=True)
    for shown in shown_tables(verdict):
        console.print(f"\n{shown.title}", soft_wrap=True)
        table = numbers_table(shown.head[0], shown.head[1:])
        for texts in shown.lines[:_LONGEST]:
            table.add_row(*texts)
        print_whole(console, table)
        if (more := len(shown.lines) - _LONGEST) > 0:
            console.print(f"{counted(more, 'more cell')}: --format csv has all.")


def comparison_page(verdict: SweepVerdict) -> str:
    """The comparison as a page of HTML."""
    loader = PackageLoader("cluster.comparison", "")
    page = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return page.get_template("page.html.jinja").render(
        title=f"Comparison of {verdict.a.name} and {verdict.b.name}",
        lines=list(summary_lines(verdict)),
        tables=shown_tables(verdict),
    )


def shown_tables(verdict: SweepVerdict) -> list[TextTable]:
    """The tables that are not empty: the differences, the cells that only one sweep has, and the
    times."""
    fields = naming_fields(verdict)
    tables = [
        _differences(verdict, fields),
        *(
            TextTable(f"Only in {letter}", fields, [cell_texts(each, fields) for each in only])
            for letter, only in (("A", verdict.only_a), ("B", verdict.only_b))
        ),
        _times(verdict, fields),
    ]
    return [table for table in tables if table.lines]


def _differences(verdict: SweepVerdict, fields: Sequence[str]) -> TextTable:
    head = (*fields, "largest in", "A", "B", "B - A", "in spreads", "results that differ")
    return TextTable(
        f"Different cells, the largest difference first. {SPREAD}",
        head,
        [
            [*cell_texts(cell.key, fields), *_largest(cell), remarks_of(cell)]
            for cell in verdict.differing
        ],
    )


def _largest(cell: CellVerdict) -> list[str]:
    if not cell.apart:
        return [ONE_BIT, "", "", "", ""]
    first = cell.apart[0]
    return [
        first.measure,
        _mean(first.a),
        _mean(first.b),
        _signed(first.difference),
        _signed(first.in_spreads),
    ]


def _times(verdict: SweepVerdict, fields: Sequence[str]) -> TextTable:
    """The most important of the measured columns, which stands first."""
    firsts: list[tuple[CellVerdict, Apart]] = [
        (cell, cell.measured[0]) for cell in verdict.cells if cell.measured
    ]
    column = firsts[0][1].measure if firsts else ""
    return TextTable(
        f"Measured {column}: times differ with each run, and decide nothing.",
        (*fields, "A", "B", "B / A"),
        [
            [
                *cell_texts(cell.key, fields),
                _mean(apart.a),
                _mean(apart.b),
                "-" if apart.ratio is None else f"{apart.ratio:.3f}",
            ]
            for cell, apart in firsts
        ],
    )


def _mean(summary: Summary) -> str:
    """A mean with its standard deviation, and how many values are finite if not all are."""
    if summary.mean is None:
        return "none finite"
    text = number(summary.mean) if summary.mean >= 0 else f"-{number(-summary.mean)}"
    spread = "" if summary.sd is None else f" ± {number(summary.sd)}"
    holes = "" if summary.n == summary.of else f" ({summary.n} of {summary.of} finite)"
    return text + spread + holes


def _signed(value: float | None) -> str:
    if value is None:
        return "-"
    return "0" if value == 0 else f"{value:+.2g}"


def write_page(path: str, text: str) -> None:
    """Writes the page. Raises InputError if it cannot be written there."""
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise InputError(f"page {path}: {error.strerror or error}; name another file") from error
