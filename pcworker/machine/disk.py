"""Writes files so that they outlive a power loss, on a file system that keeps what is synced."""

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TEMPORARY = re.compile(r"\.[0-9a-f]{32}")
"""The names of the temporary files of `written_beside`. A writer that is killed leaves its own."""
REMEMBERED = 1000
"""A worker makes three folders for each shard. To remember all of them took 1.7 kB a shard."""


class Folders:
    """The folders of a tree, made so that they outlive a power loss.

    A new folder is an entry of the folder above it, which is lost with all that was synced in the
    new one, unless the folder above is synced too.
    """

    def __init__(self, top: Path) -> None:
        """`top` is the root of the tree, as an absolute path. It may be missing yet."""
        self._top = top
        self._safe: set[Path] = set()
        """Folders below `top` whose entries are on the disk: REMEMBERED at most."""

    def make(self, folder: Path) -> None:
        """Makes the folder, and the missing ones above it.

        A folder below `top` that is there may have been made just now, by a process that has not
        synced it yet. So its entry is synced too, unless that is remembered.
        """
        safe = folder in self._safe or self._top not in folder.parents
        if safe and folder.is_dir():
            return
        self.make(folder.parent)
        with suppress(FileExistsError):
            folder.mkdir()
        sync(folder.parent)
        if len(self._safe) >= REMEMBERED:
            self._safe.clear()
        self._safe.add(folder)


def replace(path: Path, data: bytes) -> None:
    """Replaces the file at `path` by one with these bytes, in one step."""
    with written_beside(path, data) as temporary:
        os.replace(temporary, path)
        sync(path.parent)


@contextmanager
def written_beside(path: Path, data: bytes) -> Iterator[Path]:
    """A temporary file in the folder of `path` that holds `data`, safe on the disk. It is removed
    at the end."""
    temporary = path.parent / f".{uuid.uuid4().hex}"
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def sync(folder: Path) -> None:
    """Makes the entries of a folder safe on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
