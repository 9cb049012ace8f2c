"""Gathers what many shards have committed in a few files of a folder on this machine."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from cluster.results.compaction.entries import COMMITS, Entry, entry_of
from cluster.results.needed import Needed
from pcworker.store.commit import Commit
from pcworker.store.parquet import RowWriter, table

FULL_COMMITS = 10_000
FULL_BYTES = 128 * 2**20
"""A spool of so many commits, or whose commits' files have so many bytes, is full."""


class Spool:
    """Files that grow by one commit after the other: one for each table, one for the entries."""

    def __init__(self, folder: Path, schemas: Needed) -> None:
        """`folder` must not exist yet. `schemas` are the columns of the tables."""
        folder.mkdir()
        self.folder = folder
        self._names = tuple(schemas)
        self._writers = {
            name: RowWriter(folder / f"{name}.parquet", schema) for name, schema in schemas.items()
        }
        self._entries: list[Entry] = []
        self._bytes = 0

    @property
    def full(self) -> bool:
        """True if the next commit belongs into another spool."""
        return len(self._entries) >= FULL_COMMITS or self._bytes >= FULL_BYTES

    @property
    def files(self) -> dict[str, Path]:
        """The files by the names of their tables."""
        return {name: self.folder / f"{name}.parquet" for name in (*self._names, COMMITS)}

    def add(self, commit: Commit, tables: Mapping[str, pa.Table]) -> None:
        """Adds a commit and its tables."""
        ordered = {name: tables[name] for name in self._names}
        for name, rows in ordered.items():
            self._writers[name].add(rows)
        self._entries.append(entry_of(commit, ordered))
        self._bytes += sum(file.size for file in commit.files)

    def close(self) -> None:
        """Ends the files."""
        for writer in self._writers.values():
            writer.close()
        entries = table(Entry, self._entries, {})
        writer = RowWriter(self.files[COMMITS], entries.schema)
        writer.add(entries)
        writer.close()
