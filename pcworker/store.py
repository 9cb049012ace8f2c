"""Where results are kept: bytes under keys, with one conditional write.

`put_if_absent` is the only operation that two writers may race on, and exactly one of them wins.
"""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from pcworker.errors import StoreError


class Store(Protocol):
    """Bytes under keys such as `sweeps/a/plan.json`. Every method raises StoreError on trouble."""

    url: str
    """What `open_store` makes this store from, in this and in other processes."""

    def get(self, key: str) -> bytes | None:
        """The bytes under `key`, or None where there are none."""

    def put(self, key: str, data: bytes) -> None:
        """Replaces what is under `key`; readers see all of the old or all of the new."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        """Writes only where nothing is under `key` yet; False where there was."""

    def list(self, prefix: str) -> list[str]:
        """The keys that start with `prefix`, sorted. `prefix` ends with a slash."""

    def describe(self, key: str) -> str:
        """Where a person finds `key`."""

    def check(self) -> None:
        """Raises StoreError unless all the above works here."""


def open_store(url: str) -> Store:
    """The store at `url`: a directory, which is made if need be."""
    if "://" in url:
        raise StoreError(f"store {url}: only a local directory can be a store so far; give a path")
    return LocalStore(Path(url))


class LocalStore:
    """A directory. A key is a path below it; a file appears whole, by link or rename."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.url = str(self.root)

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

    def describe(self, key: str) -> str:
        return str(self._path(key))

    def check(self) -> None:
        key = f"probe-{uuid.uuid4().hex}"
        try:
            if not self.put_if_absent(key, b"1") or self.put_if_absent(key, b"2"):
                raise StoreError(f"store {self.url}: a write that must not overwrite did")
        finally:
            with self._trouble("write", key):
                self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        parts = key.rstrip("/").split("/")
        if any(part in ("", ".", "..") or "\0" in part for part in parts):
            raise StoreError(f"key {key!r} leaves the store {self.url}")
        return self.root.joinpath(*parts)

    @contextmanager
    def _written(self, key: str, data: bytes) -> Iterator[Path]:
        """A file beside `key` with `data`, safe on the disk; gone afterwards."""
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
            raise StoreError(
                f"store {self.url}: cannot {verb} {key}: {reason}; "
                "check the path, its permissions and the space on its disk"
            ) from error


def _sync(folder: Path) -> None:
    """Makes the entries of a directory safe on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
