"""Makes the SQL of a table's summary over seeds: means, spreads and counts of groups of rows.

Of a column of numbers the summary has `_mean`, `_sd` (of the sample), `_se` (the mean's standard
error) and `_n`, all of the finite values; of booleans `_true` and `_n`; of texts the number of rows
with each value, or `_values`, how many values there are, if they are not few and short. Beside
them stands the number of the group's trials, or of its rows where the table has no trials.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from cluster.query.filters import Condition, condition, literal, quoted
from cluster.query.shape import SWEEP, Shape, unknown
from pcworker.errors import InputError

FEW, LONG = 5, 40
"""A text column with more values, or with a value of more characters, is counted as a whole."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is asked of a table. None leaves a choice to the summary."""

    filters: tuple[str, ...] = ()
    """Conditions, all of which hold for a row: see `condition`."""
    group_by: tuple[str, ...] | None = None
    """None: the columns of the configuration that differ between the rows, and what else a row is
    about. So a group holds the seeds of one configuration."""
    columns: tuple[str, ...] | None = None
    """The columns to be summarised, or shown. None: all results, or all columns."""
    sort: tuple[str, ...] = ()
    """Columns of the answer, with a "-" before those whose largest value comes first. The name of a
    column that is summarised means its mean."""
    limit: int | None = None


class Query(NamedTuple):
    """A statement, and the values of its question marks."""

    sql: str
    values: tuple[Any, ...]


def varying_query(shape: Shape, wanted: Wanted) -> Query:
    """A statement whose one row says, of each column of the configuration, how many values it has
    in the rows that the filters leave. If another table lends the configuration, these are that
    table's rows, and filters on other columns do not matter."""
    counts = ", ".join(
        f"count(DISTINCT {name}) + CAST(count({name}) < count(*) AS INT) AS {name}"
        for name in map(quoted, shape.configuration)
    )
    where = [c for c in _conditions(shape, wanted) if not shape.lender or c.column in shape.lent]
    return _with(f"SELECT {counts} FROM {quoted(shape.lender or shape.table)}", where)


def values_query(shape: Shape, wanted: Wanted, column: str) -> Query:
    """A statement with the values of a text column, or with the first ones if there are many."""
    where = _conditions(shape, wanted)
    source = _source(shape, [column, *(each.column for each in where)])
    found = _with(f"SELECT DISTINCT {quoted(column)} FROM {source}", where)
    return Query(f"SELECT * FROM ({found.sql}) ORDER BY 1 NULLS LAST LIMIT {FEW + 1}", found.values)


def default_groups(shape: Shape, counts: Mapping[str, int], is_one_sweep: bool) -> tuple[str, ...]:
    """The columns by which rows are grouped if nobody says it.

    counts  the number of values of each column of the configuration
    """
    varying = (name for name in shape.configuration if counts[name] > 1)
    return (*(() if is_one_sweep else (SWEEP,)), *varying, *shape.axes)


def summary_query(
    shape: Shape, wanted: Wanted, groups: Sequence[str], texts: Mapping[str, Sequence[str | None]]
) -> Query:
    """The statement of a summary.

    texts  the first values of each text column that is summarised, of which there are FEW + 1 if
           the column has more
    """
    where = _conditions(shape, wanted)
    measures = _measures(shape, wanted)
    outputs = {name: quoted(name) for name in groups}
    by_trial = "trial_id" in shape.own
    outputs["trials" if by_trial else "rows"] = (
        "count(DISTINCT trial_id)" if by_trial else "count(*)"
    )
    for name in measures:
        outputs |= _statistics(name, shape.types[name], texts.get(name, ()))
    chosen = ", ".join(f"{sql} AS {quoted(name)}" for name, sql in outputs.items())
    source = _source(shape, [*groups, *measures, *(each.column for each in where)])
    asked = _with(f"SELECT {chosen} FROM {source}", where)
    by = f" GROUP BY {', '.join(map(quoted, groups))}" if groups else " HAVING count(*) > 0"
    return _ordered(Query(asked.sql + by, asked.values), wanted, outputs, groups)


def rows_query(shape: Shape, wanted: Wanted) -> Query:
    """The statement that shows rows."""
    if wanted.group_by is not None:
        raise InputError("--rows shows rows as they are; leave out --group-by")
    names = wanted.columns or tuple(shape.own)
    where = _conditions(shape, wanted)
    order = [name.removeprefix("-") for name in wanted.sort]
    for name in (*names, *order):
        shape.require(name)
    source = _source(shape, [*names, *order, *(each.column for each in where)])
    asked = _with(f"SELECT {', '.join(map(quoted, names))} FROM {source}", where)
    return _ordered(asked, wanted, shape.types, ())


def text_measures(shape: Shape, wanted: Wanted) -> list[str]:
    """The text columns that are summarised."""
    return [name for name in _measures(shape, wanted) if pa.types.is_string(shape.types[name])]


def _measures(shape: Shape, wanted: Wanted) -> Sequence[str]:
    if wanted.columns is None:
        return [name for name in shape.measures if name not in (wanted.group_by or ())]
    for name in wanted.columns:
        shape.require(name)
        if pa.types.is_list(shape.types[name]):
            raise InputError(
                f"column {name} holds lists, which have no mean; show them by --rows, or take "
                "their values in SQL"
            )
    return wanted.columns


def _statistics(
    name: str, kind: pa.DataType, values: Sequence[str | None]
) -> Iterable[tuple[str, str]]:
    """Yields the names and the expressions of a column's statistics."""
    column = quoted(name)
    if pa.types.is_boolean(kind):
        yield f"{name}_true", f"count(*) FILTER (WHERE {column})"
        yield f"{name}_n", f"count({column})"
    elif pa.types.is_string(kind):
        if len(values) > FEW or any(len(value or "") > LONG for value in values):
            yield f"{name}_values", f"count(DISTINCT {column})"
        else:
            for value in values:
                test = f"IS NOT DISTINCT FROM {literal(value)}"
                yield f"{name}_{value or 'null'}", f"count(*) FILTER (WHERE {column} {test})"
    else:
        number = f"CAST({column} AS DOUBLE)"
        finite = f"FILTER (WHERE isfinite({number}))"
        n, sd = f"count(*) {finite}", f"stddev_samp({number}) {finite}"
        yield f"{name}_mean", f"avg({number}) {finite}"
        yield f"{name}_sd", sd
        yield f"{name}_se", f"{sd} / sqrt({n})"
        yield f"{name}_n", n


def _source(shape: Shape, names: Iterable[str]) -> str:
    """The table, joined with the columns among these that another one lends."""
    lent = [quoted(name) for name in dict.fromkeys(names) if name in shape.lent]
    table = quoted(shape.table)
    if not lent:
        return table
    lending = f"SELECT DISTINCT trial_id, {', '.join(lent)} FROM {quoted(shape.lender or '')}"
    return f"{table} LEFT JOIN ({lending}) USING (trial_id)"


def _conditions(shape: Shape, wanted: Wanted) -> list[Condition]:
    return [condition(text, shape) for text in wanted.filters]


def _with(sql: str, conditions: Sequence[Condition]) -> Query:
    where = " AND ".join(each.sql for each in conditions)
    values = tuple(value for each in conditions for value in each.values)
    return Query(f"{sql} WHERE {where}" if where else sql, values)


def _ordered(
    query: Query, wanted: Wanted, names: Mapping[str, Any], otherwise: Sequence[str]
) -> Query:
    """The statement with an order: that which is wanted, or else that of some columns."""
    order = []
    for asked in wanted.sort or otherwise:
        name = asked.removeprefix("-")
        if name not in names and f"{name}_mean" in names:
            name = f"{name}_mean"
        if name not in names:
            raise unknown("column of the answer to sort by with the name", name, names)
        order.append(f"{quoted(name)} {'DESC' if asked[:1] == '-' else 'ASC'} NULLS LAST")
    sql = query.sql + (f" ORDER BY {', '.join(order)}" if order else "")
    return Query(sql if wanted.limit is None else f"{sql} LIMIT {wanted.limit}", query.values)
