"""Rows as tables of fixed columns, and tables as the bytes of Parquet files."""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_origin

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pcworker.machine.provenance import Provenance
from pcworker.plain import as_json
from pcworker.row import Int64, columns, values
from pcworker.store.keys import SCHEMA_VERSION

COMPRESSED_BYTES = 1024
"""A table whose columns have fewer bytes, on average, is not compressed. That makes a file of a few
rows no smaller, and to read it takes 4 times as long, because each page of each column starts the
decompression anew."""
ROW_GROUP_BYTES = 16 * 2**20
"""The bytes in memory of a row group of a large file, about."""

_TYPES = {
    str: pa.string(),
    bool: pa.bool_(),
    int: pa.int32(),
    Int64: pa.int64(),
    float: pa.float64(),
}


@cache
def schema_of(row: type) -> pa.Schema:
    """The schema of a table whose rows are of the dataclass `row`. Every column may be null."""
    return pa.schema([(column.name, _type_of(column.kind)) for column in columns(row)])


def table(row: type, rows: Iterable[Any], metadata: Mapping[str, str]) -> pa.Table:
    """A table of rows of the dataclass `row`. Raises TypeError for a row of another class."""
    rows = list(rows)
    if others := {type(each).__name__ for each in rows if type(each) is not row}:
        raise TypeError(f"rows of {', '.join(sorted(others))} in a table of {row.__name__}")
    made = pa.Table.from_pylist([values(each) for each in rows], schema=schema_of(row))
    return with_metadata(made, metadata)


def with_metadata(rows: pa.Table, metadata: Mapping[str, str]) -> pa.Table:
    """The table with this metadata and the schema's version instead of the metadata it had."""
    return rows.replace_schema_metadata({"schema_version": str(SCHEMA_VERSION), **metadata})


def file_metadata(made_by: Provenance) -> dict[str, str]:
    """The metadata that every file carries: its provenance as JSON and, under keys of their own,
    the hash of the sources and the state of git where there is a repository."""
    said = as_json(made_by)
    code = {name: said[name] for name in ("code_sha256", "git_commit", "git_dirty")}
    return {
        "provenance": json.dumps(said),
        **{name: str(value).lower() for name, value in code.items() if value is not None},
    }


def to_parquet(rows: pa.Table) -> bytes:
    """The bytes of a Parquet file that holds the table."""
    sink, encoding = pa.BufferOutputStream(), _encoding(rows.schema)
    if rows.nbytes < COMPRESSED_BYTES * rows.num_columns:
        encoding["compression"] = "none"
    pq.write_table(rows, sink, **encoding)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def from_parquet(data: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """The table in the bytes of a Parquet file: these of its columns, or all. Raises
    pyarrow.ArrowException if it is damaged."""
    # The readers of many small files are threads already.
    return pq.ParquetFile(pa.BufferReader(data)).read(columns, use_threads=False)


class RowWriter:
    """Writes a Parquet file of any length. In memory is only one row group of it.

    Each row group has the smallest and the largest value of its columns, by which a query finds
    what it need not read.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        """`schema` has the metadata of the file."""
        self._schema = schema
        self._writer = pq.ParquetWriter(path, schema, **_encoding(schema))
        self._held: list[pa.Table] = []
        self._bytes = 0

    def add(self, rows: pa.Table) -> None:
        """Adds rows. They may have other metadata."""
        self._held.append(rows.replace_schema_metadata(self._schema.metadata))
        self._bytes += rows.nbytes
        if self._bytes >= ROW_GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        """Writes what is left, and ends the file."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        group = pa.concat_tables([self._schema.empty_table(), *self._held])
        self._held, self._bytes = [], 0
        if len(group):
            self._writer.write_table(group, row_group_size=len(group))


def _encoding(schema: pa.Schema) -> dict[str, Any]:
    """The options with which a file of these columns is written."""
    weights = "value" in schema.names
    return {
        "compression": "zstd",
        "write_page_checksum": True,  # Most damage to a page gives other numbers, and no error.
        # Weights hardly ever repeat. They pack best if their bytes are split by significance.
        "use_dictionary": not weights,
        "column_encoding": {"value.list.element": "BYTE_STREAM_SPLIT"} if weights else None,
    }


def _type_of(kind: Any) -> pa.DataType:
    """The type of a column of values of the type `kind`, which stands in `pcworker.row`."""
    sequence = get_origin(kind)
    if kind in _TYPES:
        return _TYPES[kind]
    if sequence is np.ndarray:  # NDArray[np.float64]
        return pa.list_(pa.float64())
    if sequence in (list, tuple, Sequence):
        return pa.list_(_type_of(get_args(kind)[0]))
    raise TypeError(
        f"{kind} is no type of a column; allowed are str, bool, int, Int64, float, and a list, a "
        "tuple or an array of one of them"
    )
