"""Keeps a store in a local directory: a key is the path of a file in it.

A file appears in one step, by a hard link or a rename, so no reader sees a part of it.
"""

import errno
import os
import shlex
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pcworker.errors import FullError, OverwritingError, StoreError
from pcworker.machine.disk import TEMPORARY, Folders, replace, sync, written_beside
from pcworker.store.keys import key_parts

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class LocalStore:
    """A store in a directory that every process of the sweep sees."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.url = str(self.root)
        self.options = f"--store {shlex.quote(self.url)}"
        self._folders = Folders(self.root)

    def __reduce__(self) -> tuple[type["LocalStore"], tuple[Path]]:
        """Pickles the address alone: what is safe on the disk, another process finds out anew."""
        return type(self), (self.root,)

    def get(self, key: str) -> bytes | None:
        with self._trouble("read", key):
            try:
                return self._path(key).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def put(self, key: str, data: bytes) -> None:
        with self._trouble("write", key):
            replace(self._place(key), data)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        with self._trouble("write", key):
            path = self._place(key)
            with written_beside(path, data) as temporary:
                try:
                    os.link(temporary, path)
                    return True
                except FileExistsError:
                    return False
                finally:  # whoever was first may not have come so far
                    sync(path.parent)

    def list(self, prefix: str) -> list[str]:
        with self._trouble("list", prefix):
            top = self._path(prefix)
            return sorted(_files_below(str(top), "/".join(key_parts(prefix))))

    def folders(self, prefix: str) -> Sequence[str]:
        with self._trouble("list", prefix), suppress(FileNotFoundError, NotADirectoryError):
            entries = os.scandir(self._path(prefix))
            return sorted(each.name for each in entries if each.is_dir(follow_symlinks=False))
        return []

    def delete(self, key: str) -> None:
        with self._trouble("delete", key), suppress(FileNotFoundError, NotADirectoryError):
            self._path(key).unlink()

    def prune(self, prefix: str) -> None:
        """Removes empty folders, and temporary files that a killed writer has left."""
        top = self._path(prefix)
        for path in top.rglob(".*"):
            if TEMPORARY.fullmatch(path.name):
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

    def _place(self, key: str) -> Path:
        """The path of a key that is to be written, in a folder that is made if it is missing."""
        path = self._path(key)
        self._folders.make(path.parent)
        return path

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


def _files_below(folder: str, key: str) -> Iterator[str]:
    """Yields the keys of the files below a folder whose own key is `key`. Nothing is below a folder
    that is missing, or that somebody removes meanwhile."""
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        inner = f"{key}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            yield from _files_below(entry.path, inner)
        elif entry.is_file() and not entry.name.startswith("."):
            yield inner
