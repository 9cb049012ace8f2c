"""Reads committed results: exactly the files that commits name, and each file is checked."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from cluster.results.duplicates import Duplicate, Duplicates
from cluster.sweeps.plan import Plan, Shard
from pcworker.errors import DamagedError
from pcworker.plain import from_json
from pcworker.row import columns
from pcworker.store.commit import Commit, read_commit, read_file
from pcworker.store.keys import Key, SweepKeys
from pcworker.store.parquet import schema_of
from pcworker.store.result import Tables
from pcworker.store.sealed import unseal
from pcworker.store.store import Store
from pcworker.store.tables import FailureRow
from pcworker.trials.older import not_said

Unread = tuple[Plan[Any], Shard[Any]]
"""A shard whose commit or tables cannot be read, and its plan."""

READERS = 10
"""The number of objects that are read at the same time, because an object store needs some time for
each object, however small. boto3 keeps 10 connections by default."""

_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass
class Committed:
    """The commits and the rows of one or more sweeps of one experiment."""

    tables: Tables
    """The tables that the shards write."""
    commits: list[Commit] = field(default_factory=list)
    parts: dict[str, list[pa.Table]] = field(default_factory=lambda: defaultdict(list))
    """The rows by table, one part for each shard."""
    trial_ids: set[str] = field(default_factory=set)
    """The ids of all trials that some sweep has committed."""
    by_sweep: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """The ids of the trials that each sweep itself has committed."""
    duplicates: Sequence[Duplicate] = ()
    """The trials that were left out because another sweep's copy of them is there already."""
    damaged: list[str] = field(default_factory=list)
    """A line for each damaged object: its place, and what is wrong with it."""
    unread: list[Unread] = field(default_factory=list)
    """The shards to which the damaged objects belong."""
    listed: list[str] = field(default_factory=list)
    """The keys of all commits that there were, damaged or not, before the first of them was
    read."""
    beside: list[tuple[str, Commit]] = field(default_factory=list)
    """The keys of the attempts that trained a shard to its end but are not the committed one, each
    with the shard's commit."""

    def rows(self, name: str) -> pa.Table:
        """All rows of a table, without metadata."""
        empty = schema_of(self.tables.row_types[name]).empty_table()
        parts = [part.replace_schema_metadata(None) for part in self.parts[name]]
        return pa.concat_tables([empty, *parts])


def read_committed(store: Store, plans: Sequence[Plan]) -> Committed:
    """Reads everything that the shards of the plans have committed. A trial that several plans hold
    counts once if its result is the same everywhere."""
    committed, duplicates = Committed(plans[0].experiment.tables), Duplicates(plans)
    for plan in plans:
        keys = store.list(plan.keys.shards)
        shards = with_commit(plan, keys)
        committed.listed += (plan.keys.commit(shard.shard_id) for shard in shards)
        read = read_all(partial(_read_shard, store, plan), shards)
        for shard, found in zip(shards, read, strict=True):
            if isinstance(found, DamagedError):
                committed.damaged.append(str(found))
                committed.unread.append((plan, shard))
            elif found is not None:
                _add(committed, duplicates, *found, plan)
        committed.beside += _beside(plan, committed.commits, keys)
    committed.duplicates = duplicates.found
    return committed


def can_be_read(store: Store, plan: Plan, shard: Shard) -> bool:
    """True if the shard has a commit, and neither that nor a table of it is damaged."""
    try:
        return _read_shard(store, plan, shard) is not None
    except DamagedError:
        return False


def _beside(
    plan: Plan, commits: Iterable[Commit], keys: Iterable[str]
) -> Iterator[tuple[str, Commit]]:
    """Yields the keys of the plan's finished attempts that are not the committed ones, each with
    the commit of its shard."""
    by_shard = {c.shard_id: c for c in commits if c.where.sweep == plan.name}
    for key in keys:
        of = plan.keys.parse(key)
        commit = by_shard.get(of.shard) if of and of.kind == "attempt" else None
        if of and commit and of.attempt != commit.attempt_id:
            yield key, commit


def done_shards(store: Store, plan: Plan) -> set[str]:
    """The ids of the plan's shards that have a commit: exactly these shards are done."""
    return {shard.shard_id for shard in with_commit(plan, store.list(plan.keys.shards))}


def read_commits(store: Store, plan: Plan) -> dict[str, Commit]:
    """Reads the commits of a plan, by shard id. Raises DamagedError if one cannot be read."""
    there = with_commit(plan, store.list(plan.keys.shards))
    commits: dict[str, Commit] = {}
    for found in read_all(partial(read_shard_commit, store, plan), there):
        if isinstance(found, DamagedError):
            raise found
        if found is not None:
            commits[found.shard_id] = found
    return commits


def read_shard_commit(store: Store, plan: Plan, shard: Shard) -> Commit | None:
    """Reads the commit of a shard; None if it has none.

    Raises DamagedError if the commit cannot be read, or holds other trials than the plan's shard.
    """
    commit = read_commit(store, plan.keys, shard.shard_id)
    if commit is None:
        return None
    epochs = shard.trials[0].configuration.epochs
    twins = {trial.twin.trial_id: epochs for trial in shard.trials}
    trial_ids = [trial.trial_id for trial in shard.trials]
    digests = {twin: len(each) for twin, each in commit.twins.items()}
    tables = {file.table for file in commit.files}
    same = sorted(commit.trial_ids) == sorted(trial_ids) and digests == twins
    if not same or tables != set(plan.experiment.tables.row_types):
        where = store.describe(plan.keys.commit(shard.shard_id))
        raise DamagedError(f"{where} holds other trials than the plan's shard; delete it")
    return commit


def list_failures(store: Store, plan: Plan) -> list[str]:
    """Lists the keys of the records of failed attempts. Files that somebody else has put beside
    them are left out."""
    keys = store.list(plan.keys.failures)
    return [key for key in keys if (of := plan.keys.parse(key)) and of.kind == "failure"]


def read_failures(store: Store, keys: Iterable[str]) -> tuple[list[FailureRow], list[str]]:
    """Reads the records of failed attempts. The second list has a line for each damaged record."""
    found = list(read_all(partial(read_failure, store), keys))
    rows = [row for row in found if isinstance(row, FailureRow)]
    return rows, [str(error) for error in found if isinstance(error, DamagedError)]


def read_failure(store: Store, key: str) -> FailureRow:
    """Reads the record of a failed attempt. Raises DamagedError if it is damaged."""
    try:
        row = from_json(FailureRow, unseal(store.get(key) or b""))
        own = Key("failure", shard=row.shard_id, attempt=row.attempt_id)
        if SweepKeys.of(key).parse(key) != own:
            raise ValueError("the record of another attempt")
    except ValueError as error:
        raise DamagedError(f"{store.describe(key)} is damaged ({error}); delete it") from error
    return row


def with_commit(plan: Plan, keys: Collection[str]) -> list[Shard]:
    """The shards of the plan whose commit, damaged or not, is among these keys."""
    there = set(keys)
    return [shard for shard in plan.shards if plan.keys.commit(shard.shard_id) in there]


def read_all(read: Callable[[_T], _R], things: Iterable[_T]) -> Iterator[_R | DamagedError]:
    """Calls `read` for each thing, READERS at a time, and yields the results in the things' order.

    If `read` raises a DamagedError, the error is yielded in place of the result, so that one
    damaged object does not hide the others.
    """

    def attempt(thing: _T) -> _R | DamagedError:
        try:
            return read(thing)
        except DamagedError as error:
            return error

    with ThreadPoolExecutor(READERS) as pool:
        yield from pool.map(attempt, things)


def _read_shard(
    store: Store, plan: Plan, shard: Shard
) -> tuple[Commit, dict[str, pa.Table]] | None:
    """Reads a shard's commit and its tables; None if it has no commit."""
    commit = read_shard_commit(store, plan, shard)
    if commit is None:
        return None
    key = plan.keys.commit(shard.shard_id)
    rows, version = plan.experiment.tables.row_types, plan.engine_version
    parts = {
        file.table: _with_todays_columns(read_file(store, file, key), rows[file.table], version)
        for file in commit.files
    }
    if not _are_rows_of(parts, commit, plan.experiment.tables):
        raise DamagedError(
            f"{store.describe(key)} names tables with other columns, or with rows of other trials, "
            "than the plan's shard; delete it and submit the sweep again to run its shard anew"
        )
    return commit, parts


def _with_todays_columns(rows: pa.Table, row: type, engine_version: int) -> pa.Table:
    """The rows of a table of the dataclass `row` that this engine has written, with the columns
    that were added since. They hold what was done before there was a choice."""
    schema = schema_of(row)
    for name, value in not_said(engine_version).items():
        if name in schema.names and name not in rows.column_names:
            place = schema.names.index(name)
            rows = rows.add_column(place, schema.field(name), [[value] * len(rows)])
    return rows


def _are_rows_of(parts: dict[str, pa.Table], commit: Commit, tables: Tables) -> bool:
    """True if the tables have the columns of the experiment's with all values that a row must have,
    rows of every trial where each has some, and no row of another trial."""
    if not all(_are_of(tables.row_types[name], part) for name, part in parts.items()):
        return False
    ids = {name: set(part["trial_id"].to_pylist()) for name, part in parts.items()}
    every = set(commit.trial_ids)
    return ids[tables.per_trial] == every and all(found <= every for found in ids.values())


def _are_of(row: type, part: pa.Table) -> bool:
    """True if a table has the columns of these rows, and all values that none of them lacks."""
    needed = [column.name for column in columns(row) if not column.optional]
    return part.schema == schema_of(row) and not any(part[name].null_count for name in needed)


def _add(
    committed: Committed,
    duplicates: Duplicates,
    commit: Commit,
    parts: dict[str, pa.Table],
    plan: Plan,
) -> None:
    """Adds a shard of `plan` to `committed`. Trials that are there already are compared and left
    out if one copy of a trial is enough."""
    committed.commits.append(commit)
    fresh = [trial_id for trial_id in commit.trial_ids if trial_id not in committed.trial_ids]
    # Without a column for the sweep the rows of two copies could not be told apart.
    same = plan.experiment.same_everywhere
    once = [name for name, part in parts.items() if same or "sweep" not in part.column_names]
    duplicates.add(commit, {name: parts[name] for name in once})
    for name, part in parts.items():
        if name in once and len(fresh) < len(commit.trial_ids):
            part = part.filter(pc.is_in(part["trial_id"], value_set=pa.array(fresh, pa.string())))
        committed.parts[name].append(part)
    committed.trial_ids.update(fresh)
    committed.by_sweep[plan.name].update(commit.trial_ids)
