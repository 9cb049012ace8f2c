"""Finds the rows of a sweep's tables as they are now, and brings them onto this machine.

A table that the collector has made when nothing was missing stays as it is, so its files are taken.
Any other table is made from the commits that there are at this moment, as the collector would make
it. Either way a reader sees whole shards only. Nothing is written into the store.
"""

import shutil
import tempfile
import weakref
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from cluster.experiment import Derived, Experiment
from cluster.results.collect import declared_trials, make_tables, on_this_disk, trial_sets
from cluster.results.committed import read_committed
from cluster.results.duplicates import leave_out_duplicates
from cluster.results.needed import Needed, everything, only
from cluster.results.tables import cuts
from cluster.sweeps.plan import Plan
from pcworker.errors import DamagedError, first_line
from pcworker.store.keys import SCHEMA_VERSION, SweepKeys
from pcworker.store.parquet import schema_of
from pcworker.store.store import Store
from pcworker.store.tables import FailureRow

_CHECKED = ds.ParquetFileFormat(
    default_fragment_scan_options=ds.ParquetFragmentScanOptions(page_checksum_verification=True)
)
"""Parquet files whose pages are compared with their checksums when they are read."""


@dataclass(frozen=True)
class Asked:
    """One sweep that is asked about, or several sweeps that are collected together."""

    plans: tuple[Plan[Any], ...]

    @property
    def name(self) -> str:
        """The sweep's name, or the names with "+" between them."""
        return "+".join(plan.name for plan in self.plans)

    @property
    def experiment(self) -> Experiment:
        """The experiment to which all of the sweeps belong."""
        return self.plans[0].experiment

    @property
    def keys(self) -> SweepKeys:
        """The keys under which the collector keeps the tables."""
        return SweepKeys(*(plan.name for plan in self.plans))


def row_types(experiment: Experiment) -> dict[str, type]:
    """The dataclasses of the rows of all tables of an experiment, by the tables' names."""
    derived = {name: each.row_type for name, each in experiment.derived.items()}
    return {**experiment.tables.row_types, **derived, "failures": FailureRow}


class Views:
    """The tables of one sweep, or of several that are collected together. Each table is read when
    it is asked for. The files that hold the rows are removed with this object."""

    def __init__(self, store: Store, asked: Asked) -> None:
        self.asked = asked
        self.remarks: tuple[str, ...] = ()
        """Lines that say what is not in the rows that were returned last."""
        self._store = store
        self._folder = Path(tempfile.mkdtemp(prefix="zilsweep-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._kept: dict[str, ds.Dataset] = {}

    @cached_property
    def names(self) -> Sequence[str]:
        """The names of all tables."""
        return tuple(row_types(self.asked.experiment))

    @on_this_disk()
    def rows(self, names: Collection[str]) -> Mapping[str, ds.Dataset]:
        """The rows of these tables, by name. They are files of this machine, in which DuckDB and
        Arrow read no more than they need."""
        self.remarks = ()
        wanted = [name for name in self.names if name in names]
        if new := [name for name in wanted if name not in self._kept]:
            stored = self._store.list(self.asked.keys.tables)
            for name in new:
                if (found := self._finished(name, stored)) is not None:
                    self._kept[name] = found
        left = [name for name in wanted if name not in self._kept]
        made = self._unfinished(left) if left else {}
        return {name: self._kept.get(name) or made[name] for name in wanted}

    def _finished(self, name: str, stored: Iterable[str]) -> ds.Dataset | None:
        """The table that the collector has made, if nothing was missing then and its columns are
        today's; else None.

        stored  the keys of the files of all tables
        """
        keys, kind = self.asked.keys, row_types(self.asked.experiment)[name]
        mine = [key for key in stored if (of := keys.parse(key)) and of.table == name]
        parts = 1 if len(mine) == 1 else len(cuts(self.asked.plans, kind)) - 1
        paths = []
        for place, key in enumerate(mine if len(mine) == parts else ()):
            if (data := self._store.get(key)) is None:
                return None
            path = self._folder / f"{name}-{place}.parquet"
            path.write_bytes(data)
            if not self._is_whole(path, kind, is_one=len(mine) == 1):
                return None
            paths.append(path)
        return ds.dataset(paths, schema=schema_of(kind), format=_CHECKED) if paths else None

    def _is_whole(self, path: Path, kind: type, is_one: bool) -> bool:
        """True if the file holds today's columns and these sweeps' trials, and no trial was missing
        when it was made."""
        try:
            schema = pq.read_schema(path)
        except (pa.ArrowException, OSError):
            return False
        expected = {
            "schema_version": str(SCHEMA_VERSION),
            "trial_sets": trial_sets(self.asked.plans),
            "missing": "0",
        }
        same = schema.equals(schema_of(kind), check_metadata=False)
        one = not is_one or len(cuts(self.asked.plans, kind)) == 2 or _is_derived(self.asked, kind)
        said = schema.metadata or {}
        return same and one and all(said.get(k.encode()) == v.encode() for k, v in expected.items())

    def _unfinished(self, names: Collection[str]) -> Mapping[str, ds.Dataset]:
        """Makes tables from what is committed now."""
        derived = {k: v for k, v in self.asked.experiment.derived.items() if k in names}
        committed = read_committed(self._store, self.asked.plans, self._needed(names, derived))
        leave_out_duplicates(committed)
        made = make_tables(self._store, committed, derived)
        self.remarks = tuple(_remarks(self.asked, made.missing, made.failed, made.damaged))
        folder = self._folder / "now"
        shutil.rmtree(folder, ignore_errors=True)  # It holds what was committed earlier.
        folder.mkdir()
        return {
            name: as_dataset(folder / f"{name}.arrow", made.tables.parts(name)) for name in names
        }

    def _needed(self, names: Collection[str], derived: Mapping[str, Derived]) -> Needed:
        """What must be read of the shards' tables, so that these tables can be made."""
        tables = self.asked.experiment.tables
        if len(self.asked.plans) > 1:  # A trial's copies are compared in all tables.
            return everything(tables)
        read: dict[str, set[str]] = defaultdict(set)
        for each in derived.values():
            for name, columns in each.reads.items():
                read[name].update(columns)
        for name in tables.row_types.keys() & names:
            read[name].update(schema_of(tables.row_types[name]).names)
        return only(tables, {name: sorted(columns) for name, columns in read.items()})


def _is_derived(asked: Asked, kind: type) -> bool:
    return kind not in asked.experiment.tables.row_types.values()


def unreadable(reason: str) -> DamagedError:
    """The error for rows that cannot be read when they are needed."""
    return DamagedError(
        f"a table cannot be read ({reason}); if its file in the store is damaged, "
        "python -m jobs.collect makes it anew"
    )


@contextmanager
def reading_rows() -> Iterator[None]:
    """Raises DamagedError in place of the errors of reading the rows of a view."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise unreadable(first_line(error)) from error


def as_dataset(path: Path, parts: Iterator[pa.Table]) -> ds.Dataset:
    """Writes tables of the same columns into one file. Nothing is compressed, because the rows are
    read once or twice."""
    first = next(parts)
    with pa.ipc.new_file(path, first.schema) as file:
        file.write_table(first)
        for rows in parts:
            file.write_table(rows)
    return ds.dataset(path, format="ipc")


def _remarks(
    asked: Asked, missing: Sequence[Any], failed: int, damaged: Sequence[str]
) -> Iterator[str]:
    if missing:
        note = f", {failed} of them because their shard failed" if failed else ""
        yield (
            f"{asked.name}: {len(missing)} of {declared_trials(asked.plans)} trials have no result"
            f"{note}"
        )
    yield from damaged
