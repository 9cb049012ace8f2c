"""A compaction in the store: its files, and the record that commits them.

The record is written last, so a collector that is killed leaves files that nobody reads. Nothing is
lost with a compaction: the shards' own files stay, and are read where no compaction counts.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pcworker.plain import as_json, from_json
from pcworker.store.commit import CommittedFile
from pcworker.store.keys import SCHEMA_VERSION, SweepKeys
from pcworker.store.sealed import seal, unseal
from pcworker.store.store import Store


@dataclass(frozen=True)
class Compaction:
    """The content of a `compact/<compaction>.json`."""

    compaction_id: str
    files: tuple[CommittedFile, ...]
    """A file for each table, and one for the entries."""


def store_compaction(store: Store, keys: SweepKeys, made: str, files: Mapping[str, Path]) -> None:
    """Stores the files of a new compaction by the names of their tables, and then its record.

    made  the id of the compaction
    """
    stored = []
    for name, path in files.items():
        key, data = keys.compacted(made, name), path.read_bytes()
        store.put(key, data)
        stored.append(CommittedFile(name, key, len(data), hashlib.sha256(data).hexdigest()))
    body = {"schema_version": SCHEMA_VERSION, **as_json(Compaction(made, tuple(stored)))}
    store.put_if_absent(keys.compaction(made), seal(body))


def fetch_compaction(
    store: Store,
    keys: SweepKeys,
    made: str,
    names: Iterable[str],
    needed: Collection[str],
    folder: Path,
) -> bool:
    """Copies those files of a compaction that are needed into a folder, as `<table>.parquet`.
    Returns False if it is damaged, or has other files than those of the tables `names`: then it
    does not count."""
    try:
        body = unseal(store.get(keys.compaction(made)) or b"")
        record = from_json(Compaction, body)
        named = {file.table: file for file in record.files}
        expected = [replace(named[name], key=keys.compacted(made, name)) for name in names]
    except (ValueError, KeyError):
        return False
    if body["files"] != [asdict(file) for file in expected] or record.compaction_id != made:
        return False
    if body.get("schema_version") != SCHEMA_VERSION:
        return False
    folder.mkdir()
    for file in expected:
        if file.table not in needed:
            continue
        data = store.get(file.key)
        if data is None or hashlib.sha256(data).hexdigest() != file.sha256:
            return False
        (folder / f"{file.table}.parquet").write_bytes(data)
    return True
