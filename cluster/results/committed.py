"""What the shards of some sweeps have committed: a few columns in memory, and all rows in files."""

import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.results.compaction.entries import ENTRY_COLUMNS
from cluster.results.compaction.gather import Holdings, gather
from cluster.results.compaction.source import attempts_of, read_row_group
from cluster.results.needed import Needed
from cluster.sweeps.plan import Plan
from pcworker.row import Row
from pcworker.store.parquet import schema_of
from pcworker.store.store import Store
from pcworker.trials.trial import Trial

OPEN_ROW_GROUPS = 16
"""The number of row groups that are kept in memory, because a reader may go on in each of them."""
TRIALS_AT_ONCE = 20_000
"""The number of trials of a portion, about."""


class Committed:
    """The commits of one or more sweeps of one experiment, in the order of the plans and of their
    shards. The files that hold the rows are removed with this object."""

    def __init__(self, gathered: Sequence[Holdings], folder: Path) -> None:
        """`folder` holds the files."""
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.folder = folder
        self.gathered = tuple(gathered)
        self.plans = tuple(each.plan for each in gathered)
        chosen = [(k, each) for k, plan in enumerate(gathered) for each in plan.chosen]
        self._sources = [each.source for _, each in chosen]
        columns = [
            (plan, shard, source, entry)
            for source, (plan, each) in enumerate(chosen)
            for entry, shard in zip(each.entries, each.shards, strict=True)
        ]
        table = np.array(columns, np.int64).reshape(-1, 4)
        table = table[np.lexsort((table[:, 1], table[:, 0]))]
        self.plan_of, self.shard_of, self._source_of, self._entry_of = table.T
        self.entries = self._ordered_entries()
        """A row for each commit: see `Entry`."""
        self.left_out: dict[int, pa.Array] = {}
        """By a plan's place, its trials whose rows are not in the tables of `once`, because those
        of an earlier plan are."""
        self._row_group = lru_cache(OPEN_ROW_GROUPS)(read_row_group)

    def __len__(self) -> int:
        return len(self.entries)

    @cached_property
    def once(self) -> tuple[str, ...]:
        """The tables in which one copy of a trial is enough. In the others a column names the sweep
        of a row, so that the rows of two copies can be told apart."""
        same = self.plans[0].experiment.same_everywhere
        return tuple(
            name
            for name, kind in self.tables.items()
            if same or "sweep" not in schema_of(kind).names
        )

    @property
    def tables(self) -> Mapping[str, type]:
        """The dataclasses of the rows of the tables that the shards have written, by name."""
        return self.plans[0].experiment.tables.row_types

    @property
    def listed(self) -> Iterator[str]:
        """The keys of all commits that there were, damaged or not, before the first was read."""
        for each in self.gathered:
            known = {shard.shard_id for shard in each.plan.shards}
            yield from (each.plan.keys.commit(s) for s in each.listing.committed & known)

    def entry(self, place: int) -> Row:
        """What is known of one commit: see `Entry`."""
        row: Row = self.entries.slice(place, 1).to_pylist()[0]
        return row

    @property
    def beside(self) -> Iterator[tuple[str, int]]:
        """The keys of the attempts that trained a shard to its end but are not the committed one,
        each with the place of the shard's commit."""
        attempts = attempts_of(self.entries)
        for plan, each in enumerate(self.gathered):
            first, last = np.searchsorted(self.plan_of, (plan, plan + 1)).tolist()
            mine = {attempts[k][0]: k for k in range(first, last)}
            for shard, attempt, key in each.listing.ended:
                place = mine.get(shard)
                if place is not None and attempts[place][1] != attempt:
                    yield key, place

    def without_commit(self, plan: int) -> list[int]:
        """The places, in the plan at this place, of the shards without a commit that can be
        read."""
        every = np.arange(len(self.plans[plan].shards))
        left: list[int] = np.setdiff1d(every, self.shard_of[self.plan_of == plan]).tolist()
        return left

    def rows(
        self,
        name: str,
        first: int = 0,
        last: int | None = None,
        columns: Sequence[str] | None = None,
    ) -> Iterator[pa.Table]:
        """Yields the rows of a table that the commits from `first` up to and without `last` have
        written, in their order, and without trials that are left out. If there are `columns`, it
        yields those, and the trials' ids."""
        last = len(self) if last is None else last
        wanted = None if columns is None else tuple(dict.fromkeys(("trial_id", *columns)))
        for begin, end in self._together(first, last):
            source = self._sources[self._source_of[begin]]
            entry = int(self._entry_of[begin])
            found = source.rows(name, entry, entry + end - begin, wanted, self._row_group)
            out = self.left_out.get(int(self.plan_of[begin])) if name in self.once else None
            for rows in found:
                yield rows if out is None else _without(rows, out)

    def portions(self) -> Iterator["Portion"]:
        """Yields all commits: as many of a plan at once as have about TRIALS_AT_ONCE trials."""
        sizes = pc.list_value_length(self.entries["trial_ids"]).to_numpy()
        ends = np.concatenate([[0], np.cumsum(sizes)])
        edges = np.searchsorted(self.plan_of, range(len(self.plans) + 1)).tolist()
        for first, end in pairwise(edges):
            while first < end:
                most = np.searchsorted(ends, ends[first] + TRIALS_AT_ONCE, "right") - 1
                last = min(end, max(first + 1, int(most)))
                yield Portion(self, first, last)
                first = last

    def _together(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Yields ranges of commits of one plan that follow each other in one source as well."""
        at = slice(first, last)
        plan, source, entry = self.plan_of[at], self._source_of[at], self._entry_of[at]
        breaks = (np.diff(plan) != 0) | (np.diff(source) != 0) | (np.diff(entry) != 1)
        edges = [first, *(np.flatnonzero(breaks) + first + 1).tolist(), last]
        return ((begin, end) for begin, end in pairwise(edges) if begin < end)

    def _ordered_entries(self) -> pa.Table:
        """The entries of all sources that count, in the order of the commits."""
        tables = [ENTRY_COLUMNS.empty_table(), *(source.entries for source in self._sources)]
        sizes = np.cumsum([len(each) for each in tables])
        together = pa.concat_tables(tables)
        return together.take(pa.array(sizes[self._source_of] + self._entry_of))


@dataclass(frozen=True)
class Portion:
    """Some commits that follow each other. All rows of their trials are in the same portion."""

    committed: Committed
    first: int
    last: int

    @property
    def entries(self) -> pa.Table:
        """A row for each of the commits: see `Entry`."""
        return self.committed.entries.slice(self.first, self.last - self.first)

    @property
    def trials(self) -> Iterator[Trial[Any]]:
        """The trials of the commits, as their plans have them."""
        for k in range(self.first, self.last):
            plan = self.committed.plans[self.committed.plan_of[k]]
            yield from plan.shards[self.committed.shard_of[k]].trials

    def columns(self, name: str) -> Sequence[str]:
        """The columns of a table."""
        names: Sequence[str] = schema_of(self.committed.tables[name]).names
        return names

    def rows(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of a table, with these columns or all."""
        made = self.committed.rows(name, self.first, self.last, columns)
        schema = schema_of(self.committed.tables[name])
        wanted = schema if columns is None else pa.schema([schema.field(each) for each in columns])
        parts = [rows.select(wanted.names).replace_schema_metadata(None) for rows in made]
        return pa.concat_tables([wanted.empty_table(), *parts])


def read_committed(store: Store, plans: Sequence[Plan], needed: Needed | None = None) -> Committed:
    """Reads what the shards of the plans have committed, as far as it is needed. Without `needed`
    it reads all, and compacts it in the store: see `gather`."""
    folder = Path(tempfile.mkdtemp(prefix="zilsweep-"))
    gathered = []
    try:
        for place, plan in enumerate(plans):
            inner = folder / str(place)
            inner.mkdir()
            gathered.append(gather(store, plan, inner, needed))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return Committed(gathered, folder)


def _without(rows: pa.Table, trial_ids: pa.Array) -> pa.Table:
    return rows.filter(pc.invert(pc.is_in(rows["trial_id"], value_set=trial_ids)))
