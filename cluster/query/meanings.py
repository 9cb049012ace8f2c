"""Explains the columns of all tables, by what the README files of the store and of the experiments
say. These pages are the contract, and a row of theirs may explain several columns at once."""

import re
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files

import pyarrow as pa

from cluster.experiment import Experiment
from cluster.query.shape import SWEEP, shape_of, unknown
from cluster.query.views import row_types

_STORE = "pcworker.store"
_HEADING = re.compile(r"#+ The table `(\w+)`")
_NAMES = re.compile(r"`(\w+)`( \.\.\. `(\w+)`)?")
_LINK = re.compile(r"\[([^\]]+)\]\([^)]+\)")
_OF_SWEEP = "the sweep of the row, as it was asked for: A+B for sweeps that are collected together"
_TYPES = {
    pa.string(): "VARCHAR",
    pa.bool_(): "BOOLEAN",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
}
"""The names that DuckDB gives to the types of columns."""


def column_meanings(experiments: Sequence[Experiment], table: str | None = None) -> pa.Table:
    """A row for each explanation of columns of a table, or of all tables: the table, the columns
    that it explains, with their types in SQL, and what the README says.

    Raises InputError if no experiment has this table.
    """
    tables = dict.fromkeys(name for each in experiments for name in row_types(each))
    if table is not None and table not in tables:
        raise unknown("table", table, tables)
    rows = [
        {"table": name, "columns": ", ".join(columns), "meaning": meaning}
        for name in ([table] if table else tables)
        for meaning, columns in _together(name, experiments).items()
    ]
    return pa.Table.from_pylist(
        rows, pa.schema([(name, pa.string()) for name in ("table", "columns", "meaning")])
    )


def said(page: str, table: str, columns: Sequence[str]) -> dict[str, str]:
    """What a README says of the columns of a table.

    columns  the columns in their order. A row of the page may say `first` ... `last`, or `_sd` for
             the column whose name begins as that of the one before.
    """
    found: dict[str, str] = {}
    for names, meaning in _rows(page, table):
        for name in _named(names, columns):
            if name in columns:
                found.setdefault(name, meaning)
    return found


def _together(table: str, experiments: Iterable[Experiment]) -> dict[str, list[str]]:
    """The columns of a table and their types, by what is said of them."""
    mine = [each for each in experiments if table in row_types(each)]
    types = shape_of(table, mine).own
    meanings: dict[str, str] = {}
    for package in (_STORE, *dict.fromkeys(each.package for each in mine if each.package)):
        meanings |= said(_page(package), table, list(types))
    found: dict[str, list[str]] = {}
    for name, kind in types.items():
        meaning = meanings.get(name, _OF_SWEEP if name == SWEEP else "")
        found.setdefault(meaning, []).append(f"{name} {_type_of(kind)}")
    return found


def _page(package: str) -> str:
    return files(package).joinpath("README.md").read_text(encoding="utf-8")


def _rows(page: str, table: str) -> Iterator[tuple[str, str]]:
    """Yields the cell of the names and the cell of the meaning, of each row about a table."""
    heading, current, width = "", "", 0
    for line in page.splitlines():
        if found := _HEADING.match(line):
            heading = found[1]
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not cells:
            width = 0
        elif cells in (["table", "column", "meaning"], ["column", "meaning"]):
            width, current = len(cells), heading
        elif len(cells) == width:
            if width == 3 and (named := _NAMES.match(cells[0])):
                current = named[1]
            if current == table:
                yield cells[-2], _prose(cells[-1])


def _prose(cell: str) -> str:
    return _LINK.sub(r"\1", cell).replace("`", "")


def _named(cell: str, columns: Sequence[str]) -> Iterator[str]:
    """Yields the names that stand in a cell."""
    before: list[str] = []
    for first, _, last in _NAMES.findall(cell):
        if last:
            yield from columns[columns.index(first) : columns.index(last) + 1]
        elif first.startswith("_"):
            yield from (name.rpartition("_")[0] + first for name in before)
        else:
            before = [*before, first] if "(and" in cell else [first]
            yield first


def _type_of(kind: pa.DataType) -> str:
    return f"{_TYPES[kind.value_type]}[]" if pa.types.is_list(kind) else _TYPES[kind]
