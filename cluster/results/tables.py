"""The tables that a collector makes: in memory where somebody asks, and as files in the store.

A small table is one file, whose rows are in the order of the plan. A large one is a folder of
parts. Which shards' rows are in which part follows from the plan alone. So where two collectors
write at the same time, and one knows less, the parts of both together are still a table: no row is
in two parts, and none is in no part.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.experiment import Experiment
from cluster.results.committed import Committed
from cluster.sweeps.plan import Plan, Shard
from pcworker.store.keys import SweepKeys
from pcworker.store.parquet import ROW_GROUP_BYTES, RowWriter, schema_of, with_metadata
from pcworker.store.store import Store

LARGE_BYTES = 768 * 2**20
"""A table that may have more bytes is a folder of parts, none of which may have more, unless it is
of one shard."""
_VALUE_BYTES = 16
"""The bytes of a value that is no weight, with which the size of a table is estimated."""


class CollectedTables(Mapping[str, pa.Table]):
    """The tables by name. A table that the shards have written is read when it is asked for."""

    def __init__(
        self,
        committed: Committed,
        failed: pa.Table,
        computed: Mapping[str, pa.Table],
        metadata: Mapping[str, str],
    ) -> None:
        """
        committed  the rows that the shards have written
        failed     the rows of trials whose shard has failed
        computed   the tables that are computed from these
        metadata   the metadata of every file
        """
        self._committed, self._failed = committed, failed
        self._computed, self.metadata = computed, metadata
        self._experiment = committed.plans[0].experiment

    def __getitem__(self, name: str) -> pa.Table:
        return with_metadata(pa.concat_tables(self.parts(name)), self.metadata)

    def __iter__(self) -> Iterator[str]:
        return iter((*self._committed.tables, *self._computed))

    def __len__(self) -> int:
        return len(self._committed.tables) + len(self._computed)

    def parts(self, name: str) -> Iterator[pa.Table]:
        """Yields the rows of a table without metadata, one part after the other. The first part is
        empty."""
        rows = self._rows(name)
        yield self._schema(name).empty_table()
        yield from (each.replace_schema_metadata(None) for each in rows)

    def is_large(self, name: str) -> bool:
        """True if the table is a folder of parts."""
        return len(self._parts(name)) > 1

    def write(self, store: Store, keys: SweepKeys) -> None:
        """Writes all tables into the store, and then deletes the files of tables that were smaller
        or larger before."""
        written = [key for name in self for key in self._write(store, keys, name)]
        mine = {
            key for key in store.list(keys.tables) if (of := keys.parse(key)) and of.table in self
        }
        for key in sorted(mine - set(written)):
            store.delete(key)

    def _write(self, store: Store, keys: SweepKeys, name: str) -> Iterator[str]:
        """Writes the files of one table, and yields their keys."""
        path = self._committed.folder / "table.parquet"
        parts = self._parts(name)
        for place, (first, last) in enumerate(parts):
            self._fill(path, name, first, last, is_part=len(parts) > 1)
            key = keys.table(name) if len(parts) == 1 else keys.part(name, place)
            store.put(key, path.read_bytes())
            yield key

    def _parts(self, name: str) -> Sequence[tuple[int, int]]:
        """The ranges of commits whose rows are in one file."""
        if name in self._computed:
            return [(0, len(self._committed))]
        plans = self._committed.plans
        before = np.array([0, *accumulate(len(plan.shards) for plan in plans)])
        shard = before[self._committed.plan_of] + self._committed.shard_of
        edges = cuts(plans, self._committed.tables[name])
        return list(pairwise(np.searchsorted(shard, edges).tolist()))

    def _fill(self, path: Path, name: str, first: int, last: int, is_part: bool) -> None:
        """Writes the rows of a range of commits into a file. Those of a part are sorted."""
        schema = self._schema(name)
        writer = RowWriter(path, with_metadata(schema.empty_table(), self.metadata).schema)
        rows = self._rows(name, first, last)
        for each in _sorted(rows, schema) if is_part else rows:
            writer.add(each)
        writer.close()

    def _schema(self, name: str) -> pa.Schema:
        if name in self._computed:
            return self._computed[name].schema.remove_metadata()
        return schema_of(self._committed.tables[name])

    def _rows(self, name: str, first: int = 0, last: int | None = None) -> Iterator[pa.Table]:
        if name in self._computed:
            yield self._computed[name]
            return
        yield from self._committed.rows(name, first, last)
        if name == self._experiment.tables.per_trial and last in (None, len(self._committed)):
            yield self._failed


def cuts(plans: Sequence[Plan], row_type: type) -> list[int]:
    """The places, among all shards of the plans in their order, at which a new part of a table
    begins, and the number of the shards. It depends on the plans alone."""
    found, size, place = [0], 0.0, 0
    for plan in plans:
        for shard in plan.shards:
            mine = _bytes_at_most(plan.experiment, row_type, shard)
            if size and size + mine > LARGE_BYTES:
                found.append(place)
                size = 0.0
            size, place = size + mine, place + 1
    return [*found, place]


def _bytes_at_most(experiment: Experiment, row_type: type, shard: Shard) -> float:
    names = schema_of(row_type).names
    rows = len(shard.trials) * (shard.trials[0].configuration.epochs if "epoch" in names else 1)
    weights = experiment.stored_bytes(shard.trials) if "value" in names else 0
    return rows * len(names) * _VALUE_BYTES + weights


def _sorted(parts: Iterator[pa.Table], schema: pa.Schema) -> Iterator[pa.Table]:
    """Yields the rows in the order of their trials' ids, and those of a trial in their own order,
    as much at once as belongs into a row group."""
    rows = pa.concat_tables(
        [schema.empty_table(), *(p.replace_schema_metadata(None) for p in parts)]
    )
    order = pc.sort_indices(rows, sort_keys=[("trial_id", "ascending")])
    step = max(1, len(rows) * ROW_GROUP_BYTES // max(1, rows.nbytes))
    for begin in range(0, len(rows), step):
        yield rows.take(order.slice(begin, step))
