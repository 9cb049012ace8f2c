"""What the collector must know of a commit, as the row of a table."""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from pcworker.fingerprint import fingerprint
from pcworker.store.commit import Commit
from pcworker.store.parquet import schema_of

COMMITS = "commits"
"""The name of the file that holds the entries of a compaction, beside its tables."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A commit without its tables. `twins`, `owned`, `digests` and `last_digests` have one value
    for each BP twin that the shard has trained."""

    shard_id: str
    attempt_id: str
    trial_ids: tuple[str, ...]
    rows: tuple[int, ...]
    """The number of rows of each table of the experiment."""
    result_digest: str
    twins: tuple[str, ...]
    """The ids of the twins."""
    owned: tuple[bool, ...]
    """Whether the twin is itself a trial of the shard."""
    digests: tuple[str, ...]
    """One fingerprint of the digests after all epochs."""
    last_digests: tuple[str, ...]
    """The digest of the final weights."""
    packing: str
    hostname: str
    device: str
    code_sha256: str


ENTRY_COLUMNS = schema_of(Entry)


def entry_of(commit: Commit, tables: Mapping[str, pa.Table]) -> Entry:
    """The entry of a commit with these tables."""
    return Entry(
        shard_id=commit.shard_id,
        attempt_id=commit.attempt_id,
        trial_ids=commit.trial_ids,
        rows=tuple(len(rows) for rows in tables.values()),
        result_digest=commit.result_digest,
        twins=tuple(commit.twins),
        owned=tuple(twin in commit.trial_ids for twin in commit.twins),
        digests=tuple(fingerprint(list(each)) for each in commit.twins.values()),
        last_digests=tuple(each[-1] for each in commit.twins.values()),
        packing=commit.packing,
        hostname=commit.where.hostname,
        device=commit.where.device,
        code_sha256=commit.where.code_sha256,
    )
