"""Every key in a store, and nowhere else a key is put together or taken apart.

Of a sweep, which is the folder `sweeps/<sweep>`:

plan.json
drivers/<driver>.json
shards/<shard>/attempts/<attempt>/<table>.parquet
shards/<shard>/attempts/<attempt>/attempt.json
shards/<shard>/attempts/<attempt>/checkpoint-<epoch>.npz
shards/<shard>/commit.json
failures/<shard>/<attempt>.json
tables/<table>.parquet      written by the collector
report/<file>               written by the collector
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pcworker.errors import InputError, StoreError

SCHEMA_VERSION = 1
"""Of everything that is stored. A plan or a commit of another version is refused."""

KeyKind = Literal[
    "table", "report", "failure", "commit", "data", "attempt", "checkpoint", "driver", "plan"
]

_ATTEMPT = "shards/<shard>/attempts/<attempt>/"
_TEMPLATES: dict[KeyKind, str] = {
    "table": "tables/<table>.parquet",
    "report": "report/<file>",
    "failure": "failures/<shard>/<attempt>.json",
    "commit": "shards/<shard>/commit.json",
    "data": _ATTEMPT + "<table>.parquet",
    "attempt": _ATTEMPT + "attempt.json",
    "checkpoint": _ATTEMPT + "checkpoint-<epoch>.npz",
    "driver": "drivers/<driver>.json",
    "plan": "plan.json",
}
_PARTS = {"table": "[a-z0-9_]+", "epoch": "[0-9]{1,10}", "driver": "[0-9a-f]+"}
_ANY_PART = "[^/]+"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Key:
    """A key taken apart. A part that its kind does not have is ""."""

    kind: KeyKind
    shard: str = ""
    attempt: str = ""
    table: str = ""
    file: str = ""
    driver: str = ""
    epoch: str = ""


class SweepKeys:
    """The keys of one sweep."""

    def __init__(self, sweep: str) -> None:
        """Raises InputError if `sweep` is not a plain name (it becomes a folder of the store)."""
        if not _NAME.fullmatch(sweep):
            raise InputError(
                f"sweep name {sweep!r}: use 1 to 100 letters, digits, '.', '_' or '-', "
                "starting with a letter or a digit"
            )
        self.root = f"sweeps/{sweep}"

    @classmethod
    def joint(cls, sweeps: Sequence[str]) -> "SweepKeys":
        """Where tables and reports made of several sweeps go: a folder `A+B` of its own."""
        keys = cls(sweeps[0])
        for sweep in sweeps[1:]:
            keys.root += "+" + cls(sweep).root.removeprefix("sweeps/")
        return keys

    @property
    def plan(self) -> str:
        return self._key("plan")

    @property
    def failures(self) -> str:
        """The prefix of all failures."""
        return f"{self.root}/failures/"

    @property
    def drivers(self) -> str:
        """The prefix of the drivers' signs of life."""
        return f"{self.root}/drivers/"

    @property
    def shards(self) -> str:
        """The prefix of all that shards have written."""
        return f"{self.root}/shards/"

    def driver(self, driver: str) -> str:
        return self._key("driver", driver=driver)

    def commit(self, shard_id: str) -> str:
        return self._key("commit", shard=shard_id)

    def data(self, shard_id: str, attempt_id: str, table: str) -> str:
        return self._key("data", shard=shard_id, attempt=attempt_id, table=table)

    def attempt(self, shard_id: str, attempt_id: str) -> str:
        """What an attempt that trained to its end says of its results."""
        return self._key("attempt", shard=shard_id, attempt=attempt_id)

    def attempts(self, shard_id: str) -> str:
        """The prefix of all that a shard's attempts have written."""
        return f"{self.shards}{shard_id}/attempts/"

    def checkpoint(self, shard_id: str, attempt_id: str, epoch: int) -> str:
        """An attempt's state after `epoch`."""
        return self._key("checkpoint", shard=shard_id, attempt=attempt_id, epoch=str(epoch))

    def failure(self, shard_id: str, attempt_id: str) -> str:
        return self._key("failure", shard=shard_id, attempt=attempt_id)

    def table(self, table: str) -> str:
        return self._key("table", table=table)

    def report(self, file: str) -> str:
        return self._key("report", file=file)

    def parse(self, key: str) -> Key | None:
        """A key of this sweep, taken apart; None for one that is not of its layout."""
        inner = key.removeprefix(f"{self.root}/")
        for kind, pattern in _PATTERNS.items():
            if inner != key and (found := pattern.fullmatch(inner)):
                return Key(kind, **found.groupdict())
        return None

    def _key(self, kind: KeyKind, **parts: str) -> str:
        return f"{self.root}/" + re.sub("<([a-z]+)>", lambda m: parts[m[1]], _TEMPLATES[kind])


def is_table_name(name: str) -> bool:
    """Whether a table may have this name, as a part of a key."""
    return re.fullmatch(_PARTS["table"], name) is not None


def _pattern(template: str) -> re.Pattern[str]:
    part = lambda m: f"(?P<{m[1]}>{_PARTS.get(m[1], _ANY_PART)})"  # noqa: E731
    return re.compile(re.sub("<([a-z]+)>", part, template.replace(".", r"\.")))


_PATTERNS = {kind: _pattern(template) for kind, template in _TEMPLATES.items()}


def key_parts(key: str) -> list[str]:
    """The parts of a key between its slashes; StoreError for one that could leave the store."""
    parts = key.rstrip("/").split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise StoreError(f"key {key!r} leaves the store")
    return parts
