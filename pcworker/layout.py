"""Every key in a store, and nowhere else a key is put together.

sweeps/<sweep>/plan.json
sweeps/<sweep>/drivers/<driver>.json
sweeps/<sweep>/shards/<shard>/attempts/<attempt>/{trials,epochs,weights}.parquet
sweeps/<sweep>/shards/<shard>/attempts/<attempt>/attempt.json
sweeps/<sweep>/shards/<shard>/attempts/<attempt>/checkpoint-<epoch>.npz
sweeps/<sweep>/shards/<shard>/commit.json
sweeps/<sweep>/failures/<shard>/<attempt>.json
sweeps/<sweep>/tables/<table>.parquet      written by the collector
sweeps/<sweep>/report/<file>               written by the collector
"""

import re
from collections.abc import Sequence

from pcworker.errors import InputError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_CHECKPOINT = re.compile(r"([^/]+)/attempts/[^/]+/checkpoint-([0-9]{1,10})\.npz")


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
        return f"{self.root}/plan.json"

    @property
    def failures(self) -> str:
        """Prefix of all failures."""
        return f"{self.root}/failures/"

    @property
    def drivers(self) -> str:
        """Prefix of the drivers' signs of life."""
        return f"{self.root}/drivers/"

    def driver(self, driver: str) -> str:
        return f"{self.drivers}{driver}.json"

    @property
    def shards(self) -> str:
        """Prefix of all that shards have written."""
        return f"{self.root}/shards/"

    def commit(self, shard_id: str) -> str:
        return f"{self.root}/shards/{shard_id}/commit.json"

    def data(self, shard_id: str, attempt_id: str, table: str) -> str:
        return f"{self.root}/shards/{shard_id}/attempts/{attempt_id}/{table}.parquet"

    def attempt(self, shard_id: str, attempt_id: str) -> str:
        """What an attempt that trained to its end says of its results."""
        return f"{self.root}/shards/{shard_id}/attempts/{attempt_id}/attempt.json"

    def attempts(self, shard_id: str) -> str:
        """Prefix of all that a shard's attempts have written."""
        return f"{self.shards}{shard_id}/attempts/"

    def checkpoint(self, shard_id: str, attempt_id: str, epoch: int) -> str:
        """An attempt's state after `epoch`."""
        return f"{self.attempts(shard_id)}{attempt_id}/checkpoint-{epoch}.npz"

    def shard_of_checkpoint(self, key: str) -> str | None:
        """The shard of a checkpoint's key; None for any other key."""
        found = _CHECKPOINT.fullmatch(key.removeprefix(self.shards))
        return found[1] if found else None

    def epoch_of_checkpoint(self, key: str) -> int | None:
        """The epoch of a checkpoint's key; None for any other key."""
        found = _CHECKPOINT.fullmatch(key.removeprefix(self.shards))
        return int(found[2]) if found else None

    def failure(self, shard_id: str, attempt_id: str) -> str:
        return f"{self.failures}{shard_id}/{attempt_id}.json"

    def table(self, table: str) -> str:
        return f"{self.root}/tables/{table}.parquet"

    def report(self, file: str) -> str:
        return f"{self.root}/report/{file}"
