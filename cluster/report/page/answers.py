"""Answers the queries of a page with the tables that were just collected."""

import shutil
import tempfile
import weakref
from pathlib import Path
from textwrap import dedent

from cluster.query.session import answer, locked, mentioned, show
from cluster.query.views import as_dataset
from cluster.report.page.parts import Answered
from cluster.results.tables import CollectedTables


class Answers:
    """A locked DuckDB with the tables of one sweep, or of several that are collected together. It
    gives what `cluster.query.session.Session` gives, without reading the store again. The rows are
    in files, which are removed with this object, and never all in memory."""

    def __init__(self, tables: CollectedTables, sweep: str) -> None:
        self._tables, self._sweep = tables, sweep
        self._folder = Path(tempfile.mkdtemp(prefix="zilsweep-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._connection = locked()
        self._there: set[str] = set()

    def __call__(self, sql: str) -> Answered:
        """The answer to a query, whose common indentation is removed."""
        text = dedent(sql).strip()
        for name in mentioned(text, list(self._tables)):
            if name not in self._there:  # Tables of weights are large, and no query reads them.
                rows = as_dataset(self._folder / f"{name}.arrow", self._tables.parts(name))
                show(self._connection, name, {self._sweep: rows})
                self._there.add(name)
        found = answer(self._connection, text)
        return Answered(text, tuple(found.column_names), tuple(found.to_pylist()))
