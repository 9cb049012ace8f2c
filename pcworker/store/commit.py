"""The commit protocol: an attempt writes its data under keys of its own, then puts its commit, if
the shard has none.

A shard is done if and only if its commit exists. Attempts that die half-way, and attempts that lose
the race for the commit, leave files that no reader ever looks at.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

import pyarrow as pa

from pcworker.errors import DamagedError, StoreError
from pcworker.machine.provenance import WorkerProvenance
from pcworker.plain import as_json, from_json
from pcworker.store.keys import SCHEMA_VERSION, Key, SweepKeys, is_part
from pcworker.store.parquet import file_metadata, from_parquet, table, to_parquet
from pcworker.store.result import Origin, Result, Tables
from pcworker.store.sealed import seal, unseal
from pcworker.store.store import Store


@dataclass(frozen=True)
class CommittedFile:
    """A data object that a commit names."""

    table: str
    key: str
    size: int
    """Its bytes."""
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Commit:
    """The content of a `commit.json`."""

    shard_id: str
    attempt_id: str
    time: str
    """The time of the commit: UTC, ISO 8601."""
    trial_ids: tuple[str, ...]
    files: tuple[CommittedFile, ...]
    result_digest: str
    twins: Mapping[str, tuple[str, ...]]
    """The digests of a twin's weights, one after each epoch, by the twin's trial id."""
    packing: str
    updates: int
    """The number of weight updates, of all trials together."""
    wall_seconds: float
    where: WorkerProvenance


@dataclass(frozen=True)
class FinishedAttempt:
    """An attempt that trained to its end, whether it committed its results or came too late."""

    shard_id: str
    attempt_id: str
    result_digest: str
    hostname: str
    device: str


CommitOutcome = Literal["committed", "lost", "differs"]
"""Lost: another attempt had already committed the same results. Differs: another attempt had
already committed other results."""


def commit_shard(
    store: Store,
    keys: SweepKeys,
    shard_id: str,
    attempt_id: str,
    result: Result,
    tables: Tables,
    where: WorkerProvenance,
) -> CommitOutcome:
    """Writes the attempt's tables, then commits them.

    tables  the tables that the experiment writes, and how
    where   the provenance of the results
    """
    rows = tables.rows(result, _origin(shard_id, attempt_id, where))
    metadata = file_metadata(where)
    files = []
    for name, kind in tables.row_types.items():
        key = keys.data(shard_id, attempt_id, name)
        files.append(_written(store, key, name, table(kind, rows[name], metadata)))
    digest = tables.digest(result)
    attempt = FinishedAttempt(shard_id, attempt_id, digest, where.hostname, where.device)
    store.put(keys.attempt(shard_id, attempt_id), seal(as_json(attempt)))
    commit = Commit(
        shard_id=shard_id,
        attempt_id=attempt_id,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        trial_ids=tuple(result.trial_ids),
        files=tuple(files),
        result_digest=digest,
        twins={twin: tuple(digests) for twin, digests in result.twins.items()},
        packing=result.packing,
        updates=result.updates,
        wall_seconds=result.wall_seconds,
        where=where,
    )
    body = seal({"schema_version": SCHEMA_VERSION, **as_json(commit)})
    for _ in range(2):  # The second try is for a commit that somebody deletes after the first.
        if store.put_if_absent(keys.commit(shard_id), body):
            return "committed"
        if winner := read_commit(store, keys, shard_id):
            if winner.attempt_id == attempt_id:
                return "committed"  # The answer to our own write was lost on its way.
            return "lost" if winner.result_digest == digest else "differs"
    where_is_it = store.describe(keys.commit(shard_id))
    raise StoreError(f"{where_is_it} can neither be written nor read: who deletes it?")


def read_commit(store: Store, keys: SweepKeys, shard_id: str) -> Commit | None:
    """The commit of a shard, or None if it has none. Raises DamagedError if it cannot be read."""
    key = keys.commit(shard_id)
    data = store.get(key)
    if data is None:
        return None
    try:
        body = unseal(data)
        if body.get("schema_version") != SCHEMA_VERSION or body.get("shard_id") != shard_id:
            raise ValueError("another schema version or shard")
        commit = from_json(Commit, body)
        if (
            not is_part("attempt", commit.attempt_id)
            or commit.updates < 0
            or commit.wall_seconds < 0
        ):
            raise ValueError("no attempt can have written it")
        if body["files"] != _expected(keys, commit):
            raise ValueError("other files than a shard has")
    except ValueError as error:
        raise DamagedError(
            f"{store.describe(key)} is damaged ({error}); "
            "delete it and submit the sweep again: its shard will be run anew"
        ) from error
    return commit


def read_attempt(store: Store, key: str) -> FinishedAttempt | None:
    """The record that an attempt has left under `key`. None if it cannot be read or is another
    attempt's: it is evidence only, and no result depends on it."""
    try:
        found = from_json(FinishedAttempt, unseal(store.get(key) or b""))
    except ValueError:
        return None
    own = Key("attempt", shard=found.shard_id, attempt=found.attempt_id)
    return found if SweepKeys.of(key).parse(key) == own else None


def read_file(
    store: Store, file: CommittedFile, commit_key: str, columns: Sequence[str] | None = None
) -> pa.Table:
    """The rows of a committed file, with these of its columns or all. Raises DamagedError unless it
    is the very file that was committed."""
    data = store.get(file.key)
    remedy = f"delete {store.describe(commit_key)} and submit the sweep again to run its shard anew"
    if data is None:
        raise DamagedError(f"{store.describe(file.key)} is missing; {remedy}")
    if _sha256(data) != file.sha256:
        raise DamagedError(
            f"{store.describe(file.key)} is damaged: it has {len(data)} bytes, sha256 "
            f"{_sha256(data)[:12]}; committed were {file.size}, {file.sha256[:12]}; {remedy}"
        )
    try:
        return from_parquet(data, columns)
    except (pa.ArrowException, OSError) as error:
        raise DamagedError(f"{store.describe(file.key)} is no Parquet file; {remedy}") from error


def _origin(shard_id: str, attempt_id: str, where: WorkerProvenance) -> Origin:
    return Origin(
        sweep=where.sweep,
        shard_id=shard_id,
        attempt_id=attempt_id,
        hostname=where.hostname,
        device=where.device,
        torch_version=where.versions["torch"],
        git_commit=where.git_commit,
    )


def _expected(keys: SweepKeys, commit: Commit) -> list[dict[str, Any]]:
    """The files of a commit as its JSON must hold them: each table once, under its own key."""
    files = {file.table: file for file in commit.files if is_part("table", file.table)}
    return [
        asdict(replace(file, key=keys.data(commit.shard_id, commit.attempt_id, table)))
        for table, file in files.items()
    ]


def _written(store: Store, key: str, name: str, rows: pa.Table) -> CommittedFile:
    """Writes the table of this name under `key`."""
    data = to_parquet(rows)
    store.put(key, data)
    return CommittedFile(name, key, len(data), _sha256(data))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
