"""Restores a sweep from an archive into a store. Every byte is checked before anything is written.

The plan is written last, by put-if-absent, so that a sweep is there as a whole or not at all. A
restoring that was killed leaves files that nobody looks at, and the same command goes on.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cluster.archive.container import plain_files, unpacked
from cluster.archive.layout import (
    MANIFEST,
    STAGES,
    STORE,
    from_manifest,
    own_kind,
    sha256,
    sweep_of,
)
from cluster.archive.own import checked_plan, keys_in
from cluster.experiment import Experiments
from cluster.results.reading import read_all
from cluster.sweeps.plan import Plan
from pcworker.errors import DamagedError, InputError
from pcworker.store.keys import SWEEPS, SweepKeys
from pcworker.store.local import LocalStore
from pcworker.store.store import Store


@dataclass(frozen=True)
class Restored:
    """What a restoring has done."""

    plan: Plan
    written: int
    """The number of objects that were written."""
    there: int
    """The number of objects that were there already."""


def restore_sweep(source: Path, store: Store, experiments: Experiments) -> Restored:
    """Restores the sweep of an archive into a store, under its own name.

    Raises InputError if the archive is not whole, if the store has another sweep of this name, or
    if it has other objects in the sweep's folder. Then nothing was written.
    """
    if not source.exists():
        raise InputError(f"there is no archive {source}; name a folder, a .tar.gz or a .zip file")
    with ExitStack() as stack:
        with _naming(source):
            folder = stack.enter_context(unpacked(source))
            digests = checked_digests(folder)
            plan = checked_plan(LocalStore(folder / STORE), sweep_of(digests), experiments)
        objects = {key: digests[STORE + key] for key in keys_in(digests)}
        there = _there(store, plan.keys, objects)
        if len(there) < len(objects):
            store.check()  # All depends on its conditional writes.
        for stage in STAGES:
            left = [k for k in objects if k not in there and own_kind(plan.keys, k) == stage]
            for done in read_all(partial(_write, folder, objects, store), left):
                if isinstance(done, DamagedError):
                    raise done
    return Restored(plan, len(objects) - len(there), len(there))


def checked_digests(folder: Path) -> Mapping[str, str]:
    """The sha256 of each file of an archive by its name, but for the manifest's own.

    Raises InputError unless the files are exactly those of the manifest, with their sha256.
    """
    names = set(plain_files(folder))
    if MANIFEST not in names:
        raise InputError(f"it has no {MANIFEST}")
    digests = from_manifest((folder / MANIFEST).read_bytes())
    if extra := names - digests.keys() - {MANIFEST}:
        raise InputError(f"{min(extra)!r} is not in its {MANIFEST}")
    if missing := digests.keys() - names:
        raise InputError(f"{min(missing)!r} is missing")
    for name in sorted(digests):
        with (folder / name).open("rb") as file:  # It may be larger than the memory.
            _require_same(name, hashlib.file_digest(file, "sha256").hexdigest(), digests[name])
    return digests


def _require_same(name: str, found: str, digest: str) -> None:
    if found != digest:
        raise InputError(f"{name!r} is damaged: its sha256 is not the one in {MANIFEST}")


def _there(store: Store, keys: SweepKeys, objects: Mapping[str, str]) -> set[str]:
    """The keys of the objects that the store has already. Raises InputError if the name is taken:
    by a sweep that does not have all of these objects, or by anything else in its folder."""
    found = store.list(keys.folder)
    mine: Sequence[str] = [key for key in found if key in objects]
    same = dict(zip(mine, read_all(partial(_is_same, store, objects), mine), strict=True))
    is_other = not all(value is True for value in same.values())
    if keys.plan in found:
        if is_other or len(mine) < len(objects):
            raise _taken(store, keys, "a sweep of this name, with other results")
    elif is_other or len(mine) < len(found):
        raise _taken(store, keys, "other objects in the folder of this name")
    return set(mine)


def _is_same(store: Store, objects: Mapping[str, str], key: str) -> bool:
    data = store.get(key)
    return data is not None and sha256(data) == objects[key]


def _write(folder: Path, objects: Mapping[str, str], store: Store, key: str) -> None:
    data = (folder / STORE / key).read_bytes()
    _require_same(STORE + key, sha256(data), objects[key])
    if not store.put_if_absent(key, data) and not _is_same(store, objects, key):
        raise _taken(store, SweepKeys.of(key), f"another {key}, which was written meanwhile")


def _taken(store: Store, keys: SweepKeys, what: str) -> InputError:
    name = keys.root.removeprefix(SWEEPS)
    return InputError(
        f"the store {store.url} holds {what}: {name}; restore into another store, or delete it "
        f"first: python -m jobs.delete {store.options} --sweep {name}"
    )


@contextmanager
def _naming(source: Path) -> Iterator[None]:
    """Raises InputError that names the archive in place of the errors of reading it."""
    try:
        yield
    except OSError as error:
        raise InputError(f"archive {source}: {error.strerror or error}") from error
    except InputError as error:
        raise InputError(f"archive {source}: {error}; nothing was restored") from error
