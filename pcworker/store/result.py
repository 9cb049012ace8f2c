"""What a commit must know of a shard's results, whatever its experiment is."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa


class Result(Protocol):
    """What a shard's training gives."""

    @property
    def trial_ids(self) -> Sequence[str]: ...

    @property
    def twins(self) -> Mapping[str, Sequence[str]]:
        """By the twin's trial id: the digest of all its weights after each epoch."""

    @property
    def packing(self) -> str: ...

    @property
    def kernel(self) -> str | None:
        """Whose operations trained it, "fused.c" or "torch", where that is a choice."""

    @property
    def updates(self) -> int: ...

    @property
    def wall_seconds(self) -> float: ...


Row = Mapping[str, Any]
Rows = Iterable[Row]


@dataclass(frozen=True)
class Tables:
    """The tables that the shards of an experiment write."""

    schemas: Mapping[str, pa.Schema]
    """By the table's name."""
    per_trial: str
    """The table in which every trial has a row, also one whose shard has failed."""
    rows: Callable[[Any, Mapping[str, object]], Mapping[str, Rows]]
    """Gives the rows of each table from a `Result` and from the columns that say where it was made:
    sweep, shard_id, attempt_id, hostname, device, torch_version, git_commit."""
    digest: Callable[[Any], str]
    """Digests a `Result`: two attempts have the same digest if and only if their results are equal
    bit for bit."""
