"""The files of an archive. A file that is not named here is refused when an archive is read.

README.md                   the data card
ro-crate-metadata.json      the same for machines: RO-Crate 1.1
manifest-sha256.txt         the sha256 of every other file
tables/...                  the collected tables, as the collector would write them
store/sweeps/<sweep>/...    the sweep's own objects, as its store keeps them
"""

import hashlib
import re
from collections.abc import Iterable, Mapping

from pcworker.errors import InputError
from pcworker.store.keys import SWEEPS, KeyKind, SweepKeys

CARD = "README.md"
CRATE = "ro-crate-metadata.json"
MANIFEST = "manifest-sha256.txt"
STORE = "store/"
"""The folder that is itself a store, with this one sweep."""
STAGES: tuple[KeyKind, ...] = ("data", "failure", "commit", "columns", "plan")
"""The kinds of the sweep's own objects in the order in which they are restored. A commit comes
after the files that it names, and the plan comes last: before it, there is no sweep."""

_LINE = re.compile(r"([0-9a-f]{64})  ([^\n]+)")


def sweep_of(names: Iterable[str]) -> str:
    """The name of the sweep whose archive has files of these names. Raises InputError if one of
    them does not belong into an archive, or if they are of no sweep or of several."""
    found = list(names)
    start = STORE + SWEEPS
    sweeps = {n.removeprefix(start).partition("/")[0] for n in found if n.startswith(start)}
    if len(sweeps) != 1:
        raise InputError(f"it holds {len(sweeps)} sweeps, and an archive holds one")
    [sweep] = sweeps
    keys = SweepKeys(sweep)
    if strange := [name for name in found if not _belongs(name, keys)]:
        raise InputError(f"the file {strange[0]!r} does not belong into an archive")
    return sweep


def own_kind(keys: SweepKeys, key: str) -> KeyKind | None:
    """The kind of one of the sweep's own objects; None if an archive has no such object."""
    parsed = keys.parse(key)
    return parsed.kind if parsed and parsed.kind in STAGES else None


def _belongs(name: str, keys: SweepKeys) -> bool:
    if name in (CARD, CRATE, MANIFEST):
        return True
    if name.startswith(STORE):
        return own_kind(keys, name.removeprefix(STORE)) is not None
    parsed = keys.parse(keys.folder + name)
    return parsed is not None and parsed.kind in ("table", "part")


def to_manifest(digests: Mapping[str, str]) -> bytes:
    """The text of a manifest, which `sha256sum --check` understands.

    digests  the sha256 of each file by its name
    """
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests)).encode()


def from_manifest(data: bytes) -> Mapping[str, str]:
    """The sha256 of each file by its name. Raises InputError if the text is no manifest."""
    found: dict[str, str] = {}
    for line in data.decode("utf-8", "replace").splitlines():
        matched = _LINE.fullmatch(line)
        if matched is None or matched[2] in found:
            raise InputError(f"its {MANIFEST} is damaged, at the line {line[:80]!r}")
        found[matched[2]] = matched[1]
    return found


def sha256(data: bytes) -> str:
    """The sha256 of bytes, in hex."""
    return hashlib.sha256(data).hexdigest()
