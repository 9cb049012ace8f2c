"""Answers SQL with the tables of sweeps. It reads nothing else, and writes nothing.

DuckDB is locked: it opens no file, loads no extension and sees no variable of Python, and no
statement can unlock it. It gets the rows as Arrow's datasets, under the names of the tables.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from cluster.experiment import Experiment
from cluster.query.filters import literal, quoted
from cluster.query.views import Asked, Views, unreadable
from pcworker.errors import InputError
from pcworker.store.store import Store
from pcworker.text import as_unicode

_LOCKED: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": "false",
    "python_enable_replacements": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    "temp_directory": "",  # It would be a folder that statements may read and write.
    "lock_configuration": "true",
}
_OWN = re.compile(r'\sDid you mean "(?:pg_|duckdb_|sqlite_|information_schema)[^"]*"\?')
"""DuckDB's proposal of a table of its own, which no user of ours means."""
_UNREAD = re.compile(r"reading the stream registered as .* failed: (.*)")
"""DuckDB's message, and Arrow's in it, for a dataset whose files cannot be read."""


class Session:
    """The tables of one or more sweeps as views. In each, a column `sweep` says whose a row is."""

    def __init__(self, store: Store, asked: Sequence[Asked]) -> None:
        self._views = [Views(store, each) for each in asked]
        self._connection = locked()
        self._has_own_names = False
        """True if a statement may have made a view of the views, under a name of its own."""
        self.remarks: tuple[str, ...] = ()
        """Lines that say what was missing when the last statement ran."""

    @property
    def names(self) -> Sequence[str]:
        """The names of the views."""
        return tuple(dict.fromkeys(name for views in self._views for name in views.names))

    @property
    def experiments(self) -> Sequence[Experiment]:
        """The experiment of each of the sweeps that the column `sweep` tells apart."""
        return tuple(views.asked.experiment for views in self._views)

    def ask(self, sql: str, parameters: Sequence[Any] = ()) -> pa.Table:
        """The result of a statement, with the rows that are committed now. A statement without a
        result gives a table without columns. Decimals, such as sums of whole numbers, are given as
        64-bit integers if they are whole and not too large, and otherwise as doubles.

        parameters  the values of the question marks in the statement

        Raises InputError if DuckDB refuses the statement.
        """
        self._has_own_names |= "create" in sql.lower()
        read = () if self._has_own_names else mentioned(sql, self.names)
        self.look(read or self.names)
        return self.again(sql, parameters)

    def again(self, sql: str, parameters: Sequence[Any] = ()) -> pa.Table:
        """Does the same as `ask`, with the rows that were there at the last look."""
        try:
            return answer(self._connection, sql, parameters)
        except InputError as error:
            if "Table with name" in str(error):
                raise InputError(f"{error}; the tables are {', '.join(self.names)}") from error
            raise

    def weights(self, trial_id: str) -> dict[int, dict[str, np.ndarray]]:
        """The final parameters of a trial, in their own dtype and shape: by layer, where 1 is the
        output layer, and by "weight" and "bias".

        Raises InputError if the trial has no weights, because there is no such trial, it has no
        result yet, or its weights are not finite. Raises it as well if their values are not kept,
        or if two sweeps hold different weights of the trial.
        """
        rows = self.ask(
            "SELECT DISTINCT layer, parameter, dtype, shape, value FROM weights "
            "WHERE trial_id = ? ORDER BY layer",
            [trial_id],
        ).to_pylist()
        if not rows:
            raise InputError(
                f"trial {trial_id!r} has no final weights here: no trial has this id, or it has no "
                "result yet, or its weights are not finite; the table trials has the ids"
            )
        if any(row["value"] is None for row in rows):
            raise InputError(f"of trial {trial_id} the table weights has the sha256, and no values")
        if len({(row["layer"], row["parameter"]) for row in rows}) < len(rows):
            raise InputError(
                f"the sweeps hold different weights of trial {trial_id}; open one of them alone"
            )
        found: dict[int, dict[str, np.ndarray]] = {}
        for row in rows:
            values = np.array(row["value"], row["dtype"]).reshape(row["shape"])
            found.setdefault(row["layer"], {})[row["parameter"]] = values
        return found

    def look(self, names: Collection[str]) -> None:
        """Makes the views of these names show what is committed now."""
        found = [(views.asked.name, views.rows(names)) for views in self._views]
        self.remarks = tuple(line for views in self._views for line in views.remarks)
        for name in names:
            show(self._connection, name, {of: rows[name] for of, rows in found if name in rows})


def locked() -> duckdb.DuckDBPyConnection:
    """A DuckDB that can reach nothing but the rows that it is given."""
    return duckdb.connect(":memory:", config=_LOCKED)


def show(connection: duckdb.DuckDBPyConnection, name: str, rows: Mapping[str, Any]) -> None:
    """Makes a view of rows.

    rows  Arrow's tables or datasets, each by the sweep that the view's column `sweep` names, if the
          rows have no such column of their own
    """
    parts = []
    for sweep, each in rows.items():
        own = f"{name} of {sweep}"
        connection.register(own, each)
        column = "" if "sweep" in each.schema.names else f"{literal(sweep)} AS sweep, "
        parts.append(f"SELECT {column}* FROM {quoted(own)}")
    together = " UNION ALL BY NAME ".join(parts)
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {quoted(name)} AS {together}")


def answer(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: Sequence[Any] = ()
) -> pa.Table:
    """The result of a statement. Its decimals are integers or doubles, and no two columns have the
    same name. Raises InputError if DuckDB refuses the statement."""
    if as_unicode(sql) != sql:
        raise InputError("this query cannot be answered: some of its bytes are no UTF-8")
    with _explained():
        statements = connection.extract_statements(sql)
        if (several := len(statements)) > 1:
            raise InputError(
                f"this query cannot be answered: it has {several} statements; ask one at a time"
            )
        if statements and statements[0].type == duckdb.StatementType.TRANSACTION:
            raise InputError(
                "this query cannot be answered: there are no transactions here; ask for rows"
            )
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(_rows, connection, sql, list(parameters) or None)
            try:
                found = running.result()
            except KeyboardInterrupt:  # DuckDB itself does not look for a signal within a join.
                connection.interrupt()
                raise
    return _plain_columns(found)


def _rows(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: list[Any] | None
) -> pa.Table:
    relation = connection.sql(sql, params=parameters)
    return pa.table({}) if relation is None else relation.to_arrow_table()


def mentioned(sql: str, names: Sequence[str]) -> Sequence[str]:
    """The names that occur in a statement as words. The others need not be read."""
    words = set(re.findall(r"\w+", sql.lower()))
    return [name for name in names if name in words]


def _plain_columns(rows: pa.Table) -> pa.Table:
    """The table without decimals, and with a name of its own for each column."""
    names: list[str] = []
    columns = []
    for name, column in zip(rows.column_names, rows.columns, strict=True):
        others = (f"{name}_{k}" for k in count(1))
        names.append(name if name not in names else next(n for n in others if n not in names))
        columns.append(_without_decimals(column))
    return pa.table(columns, names)


def _without_decimals(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if not pa.types.is_decimal(column.type):
        return column
    if column.type.scale == 0:
        with suppress(pa.ArrowInvalid):  # It does not fit.
            return column.cast(pa.int64())
    return column.cast(pa.float64())


@contextmanager
def _explained() -> Iterator[None]:
    """Raises InputError in place of DuckDB's errors."""
    try:
        yield
    except duckdb.Error as error:
        if unread := _UNREAD.search(str(error)):
            raise unreadable(unread[1]) from error
        said = str(error).partition("\n\nLINE ")[0]  # A copy of the statement follows.
        said = _OWN.sub("", said)
        raise InputError(f"this query cannot be answered: {said}") from error
