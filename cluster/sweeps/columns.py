"""The shards of a plan as columns: a Parquet file with a row for each trial, in the plan's order.

The file is named after its content, so that two drivers that store the same plan write the same
file, and no later plan replaces it.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple, Self

import pyarrow as pa

from cluster.sweeps.plan import Shard
from pcworker.errors import DamagedError
from pcworker.store.keys import SweepKeys, is_part
from pcworker.store.parquet import from_parquet, schema_of, to_parquet, with_metadata
from pcworker.store.store import Store
from pcworker.trials.trial import Trial

_ROWS = 2**16
"""The number of rows that are Python values at the same time."""


@dataclass(frozen=True)
class PlannedTrial:
    """A row of the file."""

    shard_id: str
    trial_id: str


@dataclass(frozen=True)
class ColumnFile:
    """What the head of a plan says of the file."""

    sha256: str
    size: int
    """The number of its bytes."""

    @classmethod
    def of(cls, data: bytes) -> Self:
        """The description of the file that holds `data`."""
        return cls(hashlib.sha256(data).hexdigest(), len(data))

    def key(self, keys: SweepKeys) -> str:
        """The key of the file. Raises ValueError if the sha256 is none."""
        if not is_part("columns", start := self.sha256[:16]):
            raise ValueError(f"{start!r} is not the beginning of a sha256")
        return keys.columns(start)


def shards_to_parquet(shards: Iterable[Shard[Any]]) -> bytes:
    """The bytes of the file."""
    rows = [(shard.shard_id, trial.trial_id) for shard in shards for trial in shard.trials]
    table = pa.table(list(zip(*rows, strict=True)), schema=schema_of(PlannedTrial))
    return to_parquet(with_metadata(table, {}))


def read_shards(
    store: Store, keys: SweepKeys, file: ColumnFile, trials: Iterable[Trial[Any]], count: int
) -> tuple[Shard[Any], ...]:
    """Reads the shards of a plan.

    trials  all trials of the plan, each once
    count   the number of trials; none is made if the file has another number of rows

    Raises DamagedError unless the file is the one that was stored, and its shards hold each of the
    trials exactly once. Raises ValueError if `file` has no key.
    """
    key = file.key(keys)
    data = store.get(key)
    try:
        if data is None:
            raise ValueError("it is missing")
        if ColumnFile.of(data) != file:
            raise ValueError(f"its {len(data)} bytes are not those that the plan was stored with")
        rows = _table(data, count)
        return _shards(_rows(rows), {trial.trial_id: trial for trial in trials})
    except (ValueError, pa.ArrowException, OSError) as error:
        raise DamagedError(
            f"{store.describe(key)}, the shards of the plan, is damaged ({error}); choose another "
            "--sweep, or restore the file"
        ) from error


class _Row(NamedTuple):
    """A row of the file as Python values."""

    shard_id: str
    trial_id: str


def _table(data: bytes, count: int) -> pa.Table:
    """The table in the file. Raises ValueError if it is not one of `count` planned trials."""
    table = from_parquet(data)
    if table.schema != schema_of(PlannedTrial) or any(each.null_count for each in table.columns):
        raise ValueError("it has other columns than a plan, or values are missing")
    if len(table) != count:
        raise ValueError(f"it has {len(table)} rows, and the plan {count} trials")
    return table


def _rows(table: pa.Table) -> Iterator[_Row]:
    for batch in table.to_batches(max_chunksize=_ROWS):
        yield from map(_Row, *(column.to_pylist() for column in batch.columns))


def _shards(rows: Iterable[_Row], trials: dict[str, Trial[Any]]) -> tuple[Shard[Any], ...]:
    """The shards in the rows. `trials` is empty afterwards, or ValueError is raised."""
    shards: dict[str, Shard[Any]] = {}
    for shard_id, group in groupby(rows, key=lambda row: row.shard_id):
        if shard_id in shards or not is_part("shard", shard_id):
            raise ValueError("a shard's id is there twice, or is not a number and 8 hex digits")
        found = tuple(trials.pop(row.trial_id, None) for row in group)
        if None in found:
            raise ValueError("a trial is there twice, or is not one of the plan's cells")
        shards[shard_id] = Shard(shard_id, tuple(trial for trial in found if trial))
    if trials:
        raise ValueError(f"{len(trials)} trials of the plan's cells are in no shard")
    return tuple(shards.values())
