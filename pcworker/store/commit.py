"""The commit protocol: data first, under keys of the attempt's own; then one put-if-absent.

A shard is done if and only if its commit exists. Attempts that die half-way, and those that lose
the race for the commit, leave files that no reader ever looks at.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import pyarrow as pa

from pcworker.errors import DamagedError, StoreError
from pcworker.machine.provenance import code_metadata
from pcworker.store.keys import SCHEMA_VERSION, SweepKeys, is_table_name
from pcworker.store.parquet import from_parquet, table, to_parquet
from pcworker.store.result import Result, Tables
from pcworker.store.sealed import seal, unseal
from pcworker.store.store import Store


@dataclass(frozen=True)
class CommittedFile:
    """A data object that a commit names."""

    table: str
    key: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Commit:
    """What `commit.json` says."""

    shard_id: str
    attempt_id: str
    trial_ids: tuple[str, ...]
    files: tuple[CommittedFile, ...]
    result_digest: str
    twins: Mapping[str, tuple[str, ...]]
    """By the twin's trial id: the digest of its weights after each epoch."""
    packing: str
    updates: int
    """Weight updates made, of all trials."""
    wall_seconds: float
    time: str
    """When it was committed: UTC, ISO 8601."""
    where: Mapping[str, Any]
    """hostname, device, versions, ...: what ran it."""


@dataclass(frozen=True)
class FinishedAttempt:
    """An attempt that trained to its end, whether its commit came first or not."""

    shard_id: str
    attempt_id: str
    result_digest: str
    hostname: str
    device: str


CommitOutcome = Literal["committed", "lost", "differs"]
"""Lost: another attempt had committed the same results. Differs: it had committed others."""


def commit_shard(
    store: Store,
    keys: SweepKeys,
    shard_id: str,
    attempt_id: str,
    result: Result,
    tables: Tables,
    where: Mapping[str, Any],
) -> CommitOutcome:
    """Writes the attempt's tables, then commits them.

    tables  how the experiment writes its results
    where   sweep, device and `provenance()`, for the rows and the files' metadata
    """
    columns = {
        "sweep": where["sweep"],
        "shard_id": shard_id,
        "attempt_id": attempt_id,
        "hostname": where["hostname"],
        "device": where["device"],
        "torch_version": where["versions"]["torch"],
        "git_commit": where["git_commit"],
    }
    metadata = {"provenance": json.dumps(where), **code_metadata(where)}
    files = []
    rows = tables.rows(result, columns)
    for name, schema in tables.schemas.items():
        data = to_parquet(table(schema, rows[name], metadata))
        key = keys.data(shard_id, attempt_id, name)
        store.put(key, data)
        files.append({"table": name, "key": key, "size": len(data), "sha256": _sha256(data)})
    attempt = {
        "shard_id": shard_id,
        "attempt_id": attempt_id,
        "result_digest": tables.digest(result),
        "hostname": where["hostname"],
        "device": where["device"],
    }
    store.put(keys.attempt(shard_id, attempt_id), seal(attempt))
    commit = {
        "schema_version": SCHEMA_VERSION,
        "shard_id": shard_id,
        "attempt_id": attempt_id,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "trial_ids": list(result.trial_ids),
        "files": files,
        "result_digest": attempt["result_digest"],
        "twins": {twin: list(digests) for twin, digests in result.twins.items()},
        "packing": result.packing,
        "updates": result.updates,
        "wall_seconds": result.wall_seconds,
        "where": dict(where),
    }
    for _ in range(2):  # again if the commit that was there has been deleted meanwhile
        if store.put_if_absent(keys.commit(shard_id), seal(commit)):
            return "committed"
        if winner := read_commit(store, keys, shard_id):
            if winner.attempt_id == attempt_id:
                return "committed"  # the first answer was lost on its way
            return "lost" if winner.result_digest == commit["result_digest"] else "differs"
    where_is_it = store.describe(keys.commit(shard_id))
    raise StoreError(f"{where_is_it} can neither be written nor read: who deletes it?")


def read_commit(store: Store, keys: SweepKeys, shard_id: str) -> Commit | None:
    """The commit of a shard, or None where there is none; DamagedError where it cannot be read."""
    key = keys.commit(shard_id)
    data = store.get(key)
    if data is None:
        return None
    try:
        values = unseal(data)
        if values["schema_version"] != SCHEMA_VERSION or values["shard_id"] != shard_id:
            raise ValueError("another schema version or shard")
        found = {file["table"]: file["key"] for file in values["files"]}
        expected = {t: keys.data(shard_id, values["attempt_id"], t) for t in found}
        if found != expected or not all(map(is_table_name, found)):
            raise ValueError("other files than a shard has")
        return Commit(
            shard_id=shard_id,
            attempt_id=values["attempt_id"],
            trial_ids=tuple(values["trial_ids"]),
            files=tuple(CommittedFile(**file) for file in values["files"]),
            result_digest=values["result_digest"],
            twins={twin: tuple(digests) for twin, digests in values["twins"].items()},
            packing=values["packing"],
            updates=int(values["updates"]),
            wall_seconds=float(values["wall_seconds"]),
            time=str(values["time"]),
            where=dict(values["where"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedError(
            f"{store.describe(key)} is damaged ({type(error).__name__}: {error}); "
            "delete it and submit the sweep again: its shard will be run anew"
        ) from error


def read_attempt(store: Store, key: str) -> FinishedAttempt | None:
    """What an attempt has left under `key`; None where it cannot be read: it is evidence only."""
    try:
        return FinishedAttempt(**unseal(store.get(key) or b""))
    except (ValueError, TypeError):
        return None


def read_file(store: Store, file: CommittedFile, commit_key: str) -> pa.Table:
    """The rows of a committed file; DamagedError unless it is the very file that was committed."""
    data = store.get(file.key)
    remedy = f"delete {store.describe(commit_key)} and submit the sweep again to run its shard anew"
    if data is None:
        raise DamagedError(f"{store.describe(file.key)} is missing; {remedy}")
    if _sha256(data) != file.sha256:
        raise DamagedError(
            f"{store.describe(file.key)} is damaged: it has {len(data)} bytes, sha256 "
            f"{_sha256(data)[:12]}; committed were {file.size}, {file.sha256[:12]}; {remedy}"
        )
    return from_parquet(data)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
