"""Decides whether two runs have given equal results, for the tests that compare runs.

Two tables are equal if they have the same rows, in any order, and every value is equal bit for bit.
The columns that say who computed a row, and how long it took, are not compared.
"""

import struct
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

RESULTS = ("trials", "epochs", "weights", "divergence")
CIRCUMSTANCES = frozenset(
    ("wall_seconds", "attempt_id", "shard_id", "device", "hostname", "git_commit")
)


def read_tables(folder: Path) -> dict[str, pa.Table]:
    """The tables that the collector wrote to `folder`."""
    return {name: pq.read_table(folder / f"{name}.parquet") for name in RESULTS}


def equal_tables(a: pa.Table, b: pa.Table) -> bool:
    """True if both tables have the same columns and, apart from CIRCUMSTANCES, the same rows."""
    if not a.schema.equals(b.schema, check_metadata=False):
        return False
    return _rows(a) == _rows(b)


def _rows(table: pa.Table) -> list[tuple[str, ...]]:
    compared = [name for name in table.column_names if name not in CIRCUMSTANCES]
    return sorted(tuple(map(_bits, row.values())) for row in table.select(compared).to_pylist())


def _bits(value: object) -> str:
    """A text that is equal for two values if and only if their bits are equal."""
    if isinstance(value, float):
        return struct.pack("<d", value).hex()
    if isinstance(value, list):
        floats = bool(value) and all(type(item) is float for item in value)
        packed = struct.pack(f"<{len(value)}d", *value).hex() if floats else repr(value)
        return f"[{packed}]"
    return repr(value)
