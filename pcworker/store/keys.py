"""The keys of all objects in a store. No other module puts a key together or takes one apart.

A sweep is the folder `sweeps/<sweep>`, with these objects:

plan.json
plan-<columns>.parquet
drivers/<driver>.json
shards/<shard>/attempts/<attempt>/<table>.parquet
shards/<shard>/attempts/<attempt>/attempt.json
shards/<shard>/attempts/<attempt>/checkpoint-<epoch>.npz
shards/<shard>/commit.json
failures/<shard>/<attempt>.json
compact/<compaction>/<table>.parquet   written by the collector
compact/<compaction>.json              written by the collector
tables/<table>.parquet                 written by the collector
tables/<table>/part-<part>.parquet     written by the collector, if the table is large
report/<file>                          written by the collector
"""

import re
from dataclasses import dataclass
from typing import Literal

from pcworker.errors import InputError, StoreError
from pcworker.fingerprint import fingerprint

SCHEMA_VERSION = 1
"""The version of everything that is stored. A plan or a commit of another version is refused."""

KeyKind = Literal[
    "table", "part", "report", "compaction", "compacted", "failure", "commit", "data", "attempt",
    "checkpoint", "driver", "columns", "plan",
]  # fmt: skip

_ATTEMPT = "shards/<shard>/attempts/<attempt>/"
_TEMPLATES: dict[KeyKind, str] = {
    "table": "tables/<table>.parquet",
    "part": "tables/<table>/part-<part>.parquet",
    "report": "report/<file>",
    "compaction": "compact/<compaction>.json",
    "compacted": "compact/<compaction>/<table>.parquet",
    "failure": "failures/<shard>/<attempt>.json",
    "commit": "shards/<shard>/commit.json",
    "data": _ATTEMPT + "<table>.parquet",
    "attempt": _ATTEMPT + "attempt.json",
    "checkpoint": _ATTEMPT + "checkpoint-<epoch>.npz",
    "driver": "drivers/<driver>.json",
    "columns": "plan-<columns>.parquet",
    "plan": "plan.json",
}
_PARTS = {
    "shard": "[0-9]{4,}-[0-9a-f]{8}",
    "attempt": "[0-9a-z]+",
    "table": "[a-z0-9_]+",
    "file": "[^/]+",
    "driver": "[0-9a-f]+",
    "epoch": "[0-9]{1,10}(?:-[0-9]{1,10})?",
    "part": "[0-9]{4,10}",
    "compaction": "[0-9]{14}-[0-9a-f]{8}",
    "columns": "[0-9a-f]{16}",
}
"""The patterns of a key's parts. They fit our own keys and few others, because a file that somebody
else has put into a sweep's folder must be neither read nor deleted."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
SWEEPS = "sweeps/"
"""The prefix of the keys of all sweeps."""
LONGEST_FOLDER = 255
"""The longest name of a folder on common file systems, in bytes."""


@dataclass(frozen=True)
class Key:
    """A key taken apart into its parts. A part that this kind of key does not have is ""."""

    kind: KeyKind
    shard: str = ""
    attempt: str = ""
    table: str = ""
    file: str = ""
    driver: str = ""
    epoch: str = ""
    """The finished epochs, and after a hyphen the updates of the next one, if there are any."""
    part: str = ""
    compaction: str = ""
    columns: str = ""


class SweepKeys:
    """The keys of one sweep, or of what is made of several sweeps together."""

    def __init__(self, *sweeps: str) -> None:
        """Several sweeps together have a folder of their own, `A+B`, or `A+19-more-<hash>` if that
        name would be too long.

        Raises InputError if one of `sweeps` is not a plain name: it becomes a folder of the store.
        """
        for sweep in sweeps:
            if not _NAME.fullmatch(sweep):
                raise InputError(
                    f"sweep name {sweep!r}: use 1 to 100 letters, digits, '.', '_' or '-', "
                    "starting with a letter or a digit"
                )
        name = "+".join(sweeps)
        if len(name) > LONGEST_FOLDER:
            name = f"{sweeps[0]}+{len(sweeps) - 1}-more-{fingerprint(list(sweeps))[:16]}"
        self.root = f"{SWEEPS}{name}"

    @classmethod
    def of(cls, key: str) -> "SweepKeys":
        """The keys of the sweep that a key belongs to."""
        return cls(key.removeprefix(SWEEPS).partition("/")[0])

    @property
    def folder(self) -> str:
        """The prefix of all keys of the sweep."""
        return f"{self.root}/"

    @property
    def plan(self) -> str:
        return self._key("plan")

    @property
    def failures(self) -> str:
        """The prefix of the records of all failed attempts."""
        return f"{self.folder}failures/"

    @property
    def drivers(self) -> str:
        """The prefix of the signs of life of all drivers."""
        return f"{self.folder}drivers/"

    @property
    def shards(self) -> str:
        """The prefix of everything that shards have written."""
        return f"{self.folder}shards/"

    @property
    def compactions(self) -> str:
        """The prefix of everything that collectors have compacted."""
        return f"{self.folder}compact/"

    @property
    def tables(self) -> str:
        """The prefix of all tables."""
        return f"{self.folder}tables/"

    def columns(self, start: str) -> str:
        """The file with the shards of the plan. Its sha256 starts with these 16 hex digits."""
        return self._key("columns", columns=start)

    def driver(self, driver: str) -> str:
        return self._key("driver", driver=driver)

    def commit(self, shard_id: str) -> str:
        return self._key("commit", shard=shard_id)

    def data(self, shard_id: str, attempt_id: str, table: str) -> str:
        return self._key("data", shard=shard_id, attempt=attempt_id, table=table)

    def attempt(self, shard_id: str, attempt_id: str) -> str:
        """The record that an attempt leaves when it has trained to its end."""
        return self._key("attempt", shard=shard_id, attempt=attempt_id)

    def attempts(self, shard_id: str) -> str:
        """The prefix of everything that the attempts of a shard have written."""
        return f"{self.shards}{shard_id}/attempts/"

    def checkpoint(self, shard_id: str, attempt_id: str, epoch: int, done: int = 0) -> str:
        """The state of an attempt after `epoch` and the first `done` updates of the next one."""
        at = f"{epoch}-{done}" if done else str(epoch)
        return self._key("checkpoint", shard=shard_id, attempt=attempt_id, epoch=at)

    def failure(self, shard_id: str, attempt_id: str) -> str:
        return self._key("failure", shard=shard_id, attempt=attempt_id)

    def table(self, table: str) -> str:
        return self._key("table", table=table)

    def part(self, table: str, place: int) -> str:
        """One file of a table that is too large for a single one."""
        return self._key("part", table=table, part=f"{place:04d}")

    def compaction(self, compaction: str) -> str:
        """The record that commits a compaction."""
        return self._key("compaction", compaction=compaction)

    def compacted(self, compaction: str, table: str) -> str:
        """One file of a compaction."""
        return self._key("compacted", compaction=compaction, table=table)

    def report(self, file: str) -> str:
        return self._key("report", file=file)

    def parse(self, key: str) -> Key | None:
        """Takes a key apart. Returns None if it is no key of this sweep."""
        inner = key.removeprefix(self.folder)
        for kind, pattern in _PATTERNS.items():
            if inner != key and (found := pattern.fullmatch(inner)):
                return Key(kind, **found.groupdict())
        return None

    def _key(self, kind: KeyKind, **parts: str) -> str:
        return self.folder + _FORMATS[kind].format(**parts)


def is_part(kind: str, text: str) -> bool:
    """True if `text` may be this part of a key, such as its "table", "shard" or "attempt"."""
    return re.fullmatch(_PARTS[kind], text) is not None


def _pattern(template: str) -> re.Pattern[str]:
    part = lambda m: f"(?P<{m[1]}>{_PARTS[m[1]]})"  # noqa: E731
    return re.compile(re.sub("<([a-z]+)>", part, template.replace(".", r"\.")))


_FORMATS = {kind: re.sub("<([a-z]+)>", r"{\1}", text) for kind, text in _TEMPLATES.items()}
_PATTERNS = {kind: _pattern(template) for kind, template in _TEMPLATES.items()}


def key_parts(key: str) -> list[str]:
    """The parts of a key between its slashes. Raises StoreError if the key could lead out of the
    store."""
    if not is_key(key.rstrip("/")):
        raise StoreError(f"key {key!r} leaves the store")
    return key.rstrip("/").split("/")


def is_key(text: str) -> bool:
    """True if a store may keep something under this key."""
    return not any(part in ("", ".", "..") or "\0" in part for part in text.split("/"))
