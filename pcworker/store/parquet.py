"""Rows as tables of fixed columns, and tables as the bytes of Parquet files."""

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pcworker.store.keys import SCHEMA_VERSION

FAILURES = pa.schema(
    [
        ("sweep", pa.string()),
        ("shard_id", pa.string()),
        ("attempt_id", pa.string()),
        ("kind", pa.string()),
        ("quarantined", pa.bool_()),
        ("error", pa.string()),
        ("traceback", pa.string()),
        ("driver", pa.string()),
        ("time", pa.string()),
        ("trial_ids", pa.list_(pa.string())),
    ]
)


def table(
    schema: pa.Schema, rows: Iterable[Mapping[str, Any]], metadata: Mapping[str, str]
) -> pa.Table:
    """Rows as a table of exactly these columns; raises ValueError for a column it does not know."""
    rows = list(rows)
    for row in rows:
        if unknown := set(row) - set(schema.names):
            raise ValueError(f"no such columns: {sorted(unknown)}")
    return with_metadata(pa.Table.from_pylist(rows, schema=schema), metadata)


def with_metadata(rows: pa.Table, metadata: Mapping[str, str]) -> pa.Table:
    """The table with this metadata and the schema's version, in the place of what it had."""
    return rows.replace_schema_metadata({"schema_version": str(SCHEMA_VERSION), **metadata})


def to_parquet(rows: pa.Table) -> bytes:
    """A table as the bytes of a Parquet file."""
    sink = pa.BufferOutputStream()
    weights = "value" in rows.column_names
    pq.write_table(
        rows,
        sink,
        compression="zstd",
        # weights are numbers without repeats: their bytes split by significance pack best
        use_dictionary=not weights,
        column_encoding={"value.list.element": "BYTE_STREAM_SPLIT"} if weights else None,
    )
    data: bytes = sink.getvalue().to_pybytes()
    return data


def from_parquet(data: bytes) -> pa.Table:
    """The table in the bytes of a Parquet file; raises pyarrow.ArrowException if it is damaged."""
    return pq.read_table(pa.BufferReader(data))
