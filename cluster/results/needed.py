"""The tables, and their columns, that are read of what the shards have committed."""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from pcworker.store.parquet import schema_of
from pcworker.store.result import Tables

Needed = Mapping[str, pa.Schema]
"""By a table's name the columns that are read of it. `trial_id` is always one of them."""


def everything(tables: Tables) -> Needed:
    """All columns of all tables."""
    return {name: schema_of(kind) for name, kind in tables.row_types.items()}


def only(tables: Tables, columns: Mapping[str, Sequence[str]]) -> Needed:
    """Some columns of some tables, and the trials' ids. Raises ValueError if there is no such
    table or column."""
    every = everything(tables)
    for name, names in columns.items():
        missing = set(names).difference(every[name].names if name in every else ())
        if missing or name not in every:
            raise ValueError(f"there is no table {name} with columns {', '.join(sorted(missing))}")
    return {
        name: pa.schema([each for each in schema if each.name in {"trial_id", *columns[name]}])
        for name, schema in every.items()
        if name in columns
    }
