"""Packs a folder into one file and unpacks it again. Nothing that an archive holds is trusted."""

import gzip
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from cluster.archive.layout import MANIFEST
from pcworker.errors import InputError
from pcworker.store.keys import is_key

_SUFFIXES = (".tar.gz", ".zip")
_OTHERS = (".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")
_CHUNK = 2**20
_LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""The time of each file in a ZIP file, the earliest that there is. Times say nothing here."""
_BROKEN = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError,
    UnicodeError, ValueError,
)  # fmt: skip
"""What the libraries raise for a file that is cut off, damaged, encrypted or of another format."""


def is_one_file(path: Path) -> bool:
    """True if an archive of this name is one file, and not a folder. Raises InputError if the name
    is that of a file of another format."""
    if path.suffix in _OTHERS and not path.name.endswith(_SUFFIXES):
        raise InputError(f"{path}: name a folder, or a file that ends in .tar.gz or .zip")
    return path.name.endswith(_SUFFIXES)


def pack(folder: Path, top: str, into: Path) -> None:
    """Packs all files of a folder.

    top   the folder of the packed file in which they will be
    into  the new file, whose name says the format
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if into.name.endswith(".zip"):
        with zipfile.ZipFile(into, "x", zipfile.ZIP_DEFLATED) as packed:
            for path in files:
                name = f"{top}/{path.relative_to(folder).as_posix()}"
                packed.writestr(_entry(name), path.read_bytes())
        return
    with tarfile.open(into, "x:gz", format=tarfile.PAX_FORMAT) as packed_tar:
        for path in files:
            member = tarfile.TarInfo(f"{top}/{path.relative_to(folder).as_posix()}")
            member.size, member.mode = path.stat().st_size, 0o644
            with path.open("rb") as file:
                packed_tar.addfile(member, file)


@contextmanager
def unpacked(source: Path) -> Iterator[Path]:
    """A folder with the files of an archive: a copy, which is removed at the end, or the folder
    itself if the archive is one.

    Raises InputError if the archive cannot be read whole, or holds anything but plain files.
    """
    if source.is_dir():
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="zilsweep-") as made:
        folder = Path(made)
        try:
            for name, file in _members(source):
                _write(folder, name, file)
        except _BROKEN as error:
            raise InputError(
                f"{_first_words(error)}: it is cut off, damaged or no archive of this kind"
            ) from error
        yield _top(folder)


def plain_files(folder: Path) -> list[str]:
    """The names of all files below a folder. Raises InputError if it holds a link or anything else
    that is neither a file nor a folder."""
    found = []
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        name = path.relative_to(folder).as_posix()
        if stat.S_ISREG(mode):
            found.append(name)
        elif not stat.S_ISDIR(mode):
            raise InputError(f"{name!r} is a link or a device, and an archive holds files alone")
    return found


def _members(source: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Yields the name and the content of each file."""
    if source.name.endswith(".zip"):
        with zipfile.ZipFile(source) as packed:
            for entry in packed.infolist():
                kind = stat.S_IFMT(entry.external_attr >> 16)  # Some writers leave it at 0.
                is_link = kind not in (0, stat.S_IFREG, stat.S_IFDIR)
                if not entry.is_dir() or is_link:
                    _require_plain(entry.filename, not is_link)
                    with packed.open(entry) as file:
                        yield entry.filename, file
        return
    with gzip.open(source) as whole, tarfile.open(fileobj=whole, mode="r:") as packed_tar:
        for member in packed_tar:
            if not member.isdir():
                _require_plain(member.name, member.type in (tarfile.REGTYPE, tarfile.AREGTYPE))
                content = packed_tar.extractfile(member)
                assert content is not None  # It is a plain file.
                yield member.name, content
        while whole.read(_CHUNK):  # The checksum of the whole stands at its end.
            pass


def _require_plain(name: str, is_file: bool) -> None:
    if not is_file:
        raise InputError(f"{name!r} is a link or a device, and an archive holds files alone")
    if not is_key(name) or "\\" in name:
        raise InputError(f"the name {name!r} could lead out of the archive")


def _write(folder: Path, name: str, file: IO[bytes]) -> None:
    path = folder / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as copy:
            shutil.copyfileobj(file, copy)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"the name {name!r} is there twice") from None


def _top(folder: Path) -> Path:
    """The folder with the manifest: this one, or the only one in it."""
    inner = list(folder.iterdir())
    if len(inner) == 1 and inner[0].is_dir() and not (folder / MANIFEST).exists():
        return inner[0]
    return folder


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _LONG_AGO)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    return entry


def _first_words(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


@contextmanager
def appears_whole(to: Path) -> Iterator[Path]:
    """A folder beside `to` in which its content is made. Whoever looks at `to` sees nothing before
    the caller has renamed what was made, and nothing else is left in any case.

    Raises InputError if something is at `to` already, or nothing can be written there.
    """
    try:
        if to.is_symlink() or (to.exists() and not (to.is_dir() and not any(to.iterdir()))):
            raise InputError(f"{to} is there already; name a new folder or file, or remove it")
        to.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".zilsweep-", dir=to.parent) as made:
            yield Path(made)
    except OSError as error:
        raise InputError(
            f"{to} cannot be written: {error.strerror or error}; check the path, its permissions "
            "and the space on its disk"
        ) from error


def put_in_place(made: Path, to: Path) -> None:
    """Renames what was made. An empty folder that is at `to` is replaced."""
    os.replace(made, to)
