"""What a driver hears of its shards and workers while a sweep runs: plain values, without Ray."""

from collections.abc import Mapping
from dataclasses import dataclass

from cluster.driver.decide import FailureKind
from cluster.sweeps.plan import Shard


@dataclass(frozen=True)
class WorkerInfo:
    """Who a worker is."""

    hostname: str
    """Of its node; with the node's id where several nodes are on one host."""
    pid: int
    node_id: str
    device: str


@dataclass(frozen=True)
class Joined:
    """A worker is ready, at the start or later."""

    worker: WorkerInfo


@dataclass(frozen=True)
class Finished:
    """A shard's attempt ended in a commit, its own or an earlier one."""

    shard: Shard
    outcome: str
    """A `CommitOutcome`, or "elsewhere" if another driver's worker had committed it."""
    wall_seconds: float = 0.0
    worker: WorkerInfo | None = None
    resumed_from: int = 0
    """The epoch of the checkpoint that the attempt began with; 0: from the start."""


@dataclass(frozen=True)
class Failed:
    """A shard's attempt ended without a commit."""

    shard: Shard
    attempt_id: str
    kind: FailureKind
    error: str
    traceback: str
    quarantined: bool
    worker: WorkerInfo


@dataclass(frozen=True)
class Trouble:
    """Something that the user should know of, and that the sweep goes on in spite of."""

    message: str


@dataclass(frozen=True)
class AtWork:
    """A shard's attempt that runs."""

    share: float
    """Of it that is done."""
    hostname: str
    """Of its worker."""


@dataclass(frozen=True)
class Running:
    """What is at work now."""

    shards: Mapping[str, AtWork]
    """By shard id."""
    workers: tuple[WorkerInfo, ...]
    """All that are ready, idle ones too."""


Event = Joined | Finished | Failed | Trouble | Running
