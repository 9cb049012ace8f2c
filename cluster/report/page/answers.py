"""Answers the queries of a page with the tables that were just collected."""

from collections.abc import Mapping
from textwrap import dedent

import pyarrow as pa

from cluster.query.session import locked, mentioned, show
from cluster.report.page.parts import Answer


class Answers:
    """A locked DuckDB with the tables of one sweep, or of several that are collected together. It
    gives what `cluster.query.session.Session` gives, without reading the store again."""

    def __init__(self, tables: Mapping[str, pa.Table], sweep: str) -> None:
        self._tables, self._sweep = tables, sweep
        self._connection = locked()
        self._there: set[str] = set()

    def __call__(self, sql: str) -> Answer:
        """The answer to a query, whose common indentation is removed."""
        text = dedent(sql).strip()
        for name in mentioned(text, list(self._tables)):
            if name not in self._there:  # Tables of weights are large, and no query reads them.
                show(self._connection, name, {self._sweep: self._tables[name]})
                self._there.add(name)
        found = self._connection.sql(text).to_arrow_table()
        return Answer(text, tuple(found.column_names), tuple(found.to_pylist()))
