"""Reads the rows of chosen commits from the files of a spool or of a compaction."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.results.compaction.entries import COMMITS, ENTRY_COLUMNS
from cluster.results.needed import Needed

RowGroup = Callable[[Path, int, tuple[str, ...] | None], pa.Table]
"""Reads some columns, or all, of one row group of a file."""


def read_row_group(path: Path, group: int, columns: tuple[str, ...] | None) -> pa.Table:
    """Reads a row group: see `RowGroup`."""
    with pq.ParquetFile(path) as file:
        return file.read_row_group(group, columns=None if columns is None else list(columns))


class Source:
    """The files of one spool or compaction."""

    def __init__(
        self, folder: Path, schemas: Needed, counted: Sequence[str], per_trial: str
    ) -> None:
        """
        schemas    the columns of the tables whose files are there
        counted    the names of the tables whose rows the entries count, in their order
        per_trial  the name of the table in which every trial has a row

        Raises ValueError if the files are not what a spool of these tables has written, or their
        entries do not fit the rows.
        """
        self.entries = pq.read_table(folder / f"{COMMITS}.parquet").replace_schema_metadata(None)
        if self.entries.schema != ENTRY_COLUMNS:
            raise ValueError("its entries have other columns")
        counts = np.array(self.entries["rows"].to_pylist(), np.int64)
        if counts.shape != (len(self.entries), len(counted)) or (counts < 0).any():
            raise ValueError("its entries are of other tables")
        self._files: dict[str, Path] = {}
        self._starts: dict[str, np.ndarray] = {}
        self._groups: dict[str, np.ndarray] = {}
        for name, schema in schemas.items():
            self._files[name] = folder / f"{name}.parquet"
            self._starts[name] = _sums(counts[:, counted.index(name)])
            with pq.ParquetFile(self._files[name]) as file:
                groups = [file.metadata.row_group(k) for k in range(file.num_row_groups)]
                self._groups[name] = _sums([group.num_rows for group in groups])
                same = file.schema_arrow.equals(schema, check_metadata=False)
            if not same or self._groups[name][-1] != self._starts[name][-1]:
                raise ValueError(f"its table {name} has other columns or rows")
        self._require_rows_of_their_trials(per_trial)

    def rows(
        self,
        name: str,
        first: int,
        last: int,
        columns: tuple[str, ...] | None,
        read: RowGroup,
    ) -> Iterator[pa.Table]:
        """Yields the rows of the entries from `first` up to and without `last`."""
        begin, end = (int(self._starts[name][place]) for place in (first, last))
        groups = self._groups[name]
        group = int(np.searchsorted(groups, begin, side="right")) - 1
        while begin < end:
            start, stop = int(groups[group]), min(int(groups[group + 1]), end)
            if begin < stop:
                rows = read(self._files[name], group, columns)
                yield rows.slice(begin - start, stop - begin)
            begin, group = stop, group + 1

    def _require_rows_of_their_trials(self, per_trial: str) -> None:
        declared = pc.list_flatten(self.entries["trial_ids"])
        for name, path in self._files.items():
            found = pq.read_table(path, columns=["trial_id"])["trial_id"]
            inside = pc.all(pc.is_in(found, value_set=declared.combine_chunks())).as_py()
            if inside is False or (
                name == per_trial and pc.count_distinct(found).as_py() != len(declared)
            ):
                raise ValueError(f"its table {name} has rows of other trials")


def attempts_of(entries: pa.Table) -> Sequence[tuple[str, str]]:
    """The shard and the attempt of each entry."""
    return list(
        zip(*(entries[name].to_pylist() for name in ("shard_id", "attempt_id")), strict=True)
    )


def trials_of(entries: pa.Table) -> Mapping[str, list[str]]:
    """The ids of the trials of each entry's shard."""
    return dict(
        zip(*(entries[name].to_pylist() for name in ("shard_id", "trial_ids")), strict=True)
    )


def _sums(counts: Sequence[int] | np.ndarray) -> np.ndarray:
    """The sums of all counts before each place, and at last of all."""
    return np.concatenate([[0], np.cumsum(np.asarray(counts, np.int64))]).astype(np.int64)
