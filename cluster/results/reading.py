"""Reads committed results: exactly the files that commits name, and each file is checked."""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import pyarrow as pa

from cluster.results.needed import Needed, everything
from cluster.sweeps.plan import Plan, Shard
from pcworker.errors import DamagedError
from pcworker.plain import from_json
from pcworker.row import columns
from pcworker.store.commit import Commit, read_commit, read_file
from pcworker.store.keys import Key, SweepKeys
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


def read_shard(
    store: Store, plan: Plan, shard: Shard, needed: Needed | None = None
) -> tuple[Commit, dict[str, pa.Table]] | None:
    """Reads a shard's commit and what is needed of its tables, or all; None if it has no commit."""
    tables = plan.experiment.tables
    needed = everything(tables) if needed is None else needed
    commit = read_shard_commit(store, plan, shard)
    if commit is None:
        return None
    key = plan.keys.commit(shard.shard_id)
    parts = {
        file.table: _with_todays_columns(
            read_file(store, file, key, needed[file.table].names),
            needed[file.table],
            plan.engine_version,
        )
        for file in commit.files
        if file.table in needed
    }
    if not _are_rows_of(parts, needed, commit, tables):
        raise DamagedError(
            f"{store.describe(key)} names tables with other columns, or with rows of other trials, "
            "than the plan's shard; delete it and submit the sweep again to run its shard anew"
        )
    return commit, parts


def can_be_read(store: Store, plan: Plan, shard: Shard) -> bool:
    """True if the shard has a commit, and neither that nor a table of it is damaged."""
    try:
        return read_shard(store, plan, shard) is not None
    except DamagedError:
        return False


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
    twins = {trial.twin_id: epochs for trial in shard.trials}
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
    It reads only a little further than the caller has taken results, so that they never pile up.

    If `read` raises a DamagedError, the error is yielded in place of the result, so that one
    damaged object does not hide the others.
    """

    def attempt(thing: _T) -> _R | DamagedError:
        try:
            return read(thing)
        except DamagedError as error:
            return error

    waiting: deque[Future[_R | DamagedError]] = deque()
    with ThreadPoolExecutor(READERS) as pool:
        for thing in things:
            if len(waiting) >= 4 * READERS:
                yield waiting.popleft().result()
            waiting.append(pool.submit(attempt, thing))
        while waiting:
            yield waiting.popleft().result()


def _with_todays_columns(rows: pa.Table, schema: pa.Schema, engine_version: int) -> pa.Table:
    """The rows that this engine has written, with those columns of the schema that were added
    since. They hold what was done before there was a choice."""
    for name, value in not_said(engine_version).items():
        if name in schema.names and name not in rows.column_names:
            place = schema.names.index(name)
            rows = rows.add_column(place, schema.field(name), [[value] * len(rows)])
    return rows


def _are_rows_of(
    parts: Mapping[str, pa.Table], needed: Needed, commit: Commit, tables: Tables
) -> bool:
    """True if the tables have the needed columns with all values that a row must have, rows of
    every trial where each has some, and no row of another trial."""
    for name, part in parts.items():
        never_null = {each.name for each in columns(tables.row_types[name]) if not each.optional}
        there = never_null.intersection(part.column_names)
        if part.schema != needed[name] or any(part[each].null_count for each in there):
            return False
    ids = {name: set(part["trial_id"].to_pylist()) for name, part in parts.items()}
    every = set(commit.trial_ids)
    all_there = ids.get(tables.per_trial, every) == every
    return all_there and all(found <= every for found in ids.values())
