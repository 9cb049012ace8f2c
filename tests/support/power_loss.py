"""What is on a disk after a power loss, if the disk keeps nothing but what was synced."""

import os
import stat
from pathlib import Path


class Disk:
    """Notes what is synced. To be told, `fsync` must stand in the place of `os.fsync`.

    POSIX promises no more: the content of a file when the file is synced, and the entries of a
    folder when the folder is.
    """

    def __init__(self) -> None:
        self._fsync = os.fsync
        self._entries: dict[int, dict[str, int]] = {}
        """The number of each entry's inode, by the number of the folder's inode."""
        self._contents: dict[int, bytes] = {}
        self._kept: list[int] = []
        """Descriptors of all that was synced: while they are open, no inode is used again."""

    def fsync(self, descriptor: int) -> None:
        self._fsync(descriptor)
        self._kept.append(os.dup(descriptor))
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            with os.scandir(descriptor) as entries:
                self._entries[found.st_ino] = {each.name: each.inode() for each in entries}
        else:
            self._contents[found.st_ino] = Path(f"/proc/self/fd/{descriptor}").read_bytes()

    def close(self) -> None:
        for descriptor in self._kept:
            os.close(descriptor)

    def after_power_loss(self, folder: Path) -> dict[str, bytes]:
        """The files below `folder` that are left, by their paths in it, with what is left of them.
        The folder itself has been there for long."""
        return dict(self._left(folder.stat().st_ino, ""))

    def _left(self, inode: int, path: str) -> list[tuple[str, bytes]]:
        if inode in self._contents:
            return [(path, self._contents[inode])]
        entries = self._entries.get(inode, {}).items()
        below = ((name if not path else f"{path}/{name}", number) for name, number in entries)
        return [found for name, number in below for found in self._left(number, name)]
