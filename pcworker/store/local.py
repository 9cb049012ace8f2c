"""Keeps a store in a local directory: a key is the path of a file in it.

A file appears in one step, by a hard link or a rename, so no reader sees a part of it.
"""

import errno
import os
import re
import shlex
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pcworker.errors import FullError, OverwritingError, StoreError
from pcworker.store.keys import key_parts

_TEMPORARY = re.compile(r"\.[0-9a-f]{32}")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class LocalStore:
    """A store in a directory that every process of the sweep sees."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.url = str(self.root)
        self.options = f"--store {shlex.quote(self.url)}"

    def get(self, key: str) -> bytes | None:
        with self._trouble("read", key):
            try:
                return self._path(key).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def put(self, key: str, data: bytes) -> None:
        with self._trouble("write", key), self._written(key, data) as temporary:
            os.replace(temporary, self._path(key))
            _sync(self._path(key).parent)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        with self._trouble("write", key), self._written(key, data) as temporary:
            try:
                os.link(temporary, self._path(key))
            except FileExistsError:
                return False
            _sync(self._path(key).parent)
            return True

    def list(self, prefix: str) -> list[str]:
        with self._trouble("list", prefix):
            found = self._path(prefix).rglob("*")
            keys = (p.relative_to(self.root).as_posix() for p in found if p.is_file())
            return sorted(key for key in keys if not key.rsplit("/", 1)[-1].startswith("."))

    def delete(self, key: str) -> None:
        with self._trouble("delete", key), suppress(FileNotFoundError, NotADirectoryError):
            self._path(key).unlink()

    def prune(self, prefix: str) -> None:
        """Removes empty folders, and temporary files that a killed writer has left."""
        top = self._path(prefix)
        for path in top.rglob(".*"):
            if _TEMPORARY.fullmatch(path.name):
                path.unlink(missing_ok=True)
        for folder in sorted((top, *top.rglob("*/")), reverse=True):  # inner ones first
            with suppress(OSError):  # it holds something, or is no folder any more
                folder.rmdir()

    def require_no_links(self, prefix: str) -> None:
        top = self._path(prefix)
        with self._trouble("list", prefix):
            link = next((path for path in (top, *top.rglob("*")) if path.is_symlink()), None)
            if link is not None:
                raise StoreError(
                    f"store {self.url}: {link} is a link to {os.readlink(link)}, and nothing is "
                    "deleted behind a link; remove the link itself first"
                )

    def describe(self, key: str) -> str:
        return str(self._path(key))

    def check(self) -> None:
        key = f"probe-{uuid.uuid4().hex}"
        try:
            if not self.put_if_absent(key, b"1") or self.put_if_absent(key, b"2"):
                raise OverwritingError(
                    f"store {self.url}: a write that must not overwrite did; use a file system "
                    "whose hard links are atomic"
                )
        finally:
            self.delete(key)

    def clock(self) -> None:
        """Returns None, because there is no server."""

    def _path(self, key: str) -> Path:
        return self.root.joinpath(*key_parts(key))

    @contextmanager
    def _written(self, key: str, data: bytes) -> Iterator[Path]:
        """A temporary file beside `key` that holds `data`, safe on the disk; removed at the end."""
        folder = self._path(key).parent
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{uuid.uuid4().hex}"
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    @contextmanager
    def _trouble(self, verb: str, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            kind = FullError if error.errno in _FULL else StoreError
            raise kind(
                f"store {self.url}: cannot {verb} {key}: {reason}; "
                "check the path, its permissions and the space on its disk"
            ) from error


def _sync(folder: Path) -> None:
    """Makes the entries of a folder safe on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
