"""The events of a sweep that a driver tells to whoever listens: plain values, without Ray."""

from collections.abc import Mapping
from dataclasses import dataclass

from cluster.driver.failures import FailureKind
from cluster.sweeps.plan import Shard
from pcworker.text import counted


@dataclass(frozen=True)
class WorkerInfo:
    """Who a worker is."""

    hostname: str
    """The name of its node's host, with the node's id where several nodes are on one host."""
    pid: int
    node_id: str
    """The id that Ray gave to the node. It is empty where there is no Ray."""
    device: str
    places: int = 1
    """The number of shards that it trains at the same time."""


@dataclass(frozen=True)
class Joined:
    """A worker is ready, at the start or later."""

    worker: WorkerInfo
    trouble: str | None = None
    """What the user should know although the worker works, in one line."""


@dataclass(frozen=True)
class Finished:
    """An attempt of a shard has ended and the shard has a commit, of this attempt or another."""

    shard: Shard
    outcome: str
    """A `CommitOutcome`, or "elsewhere" if a worker of another driver has committed the shard."""
    wall_seconds: float = 0.0
    worker: WorkerInfo | None = None
    resumed_from: float = 0.0
    """How far the checkpoint was, in epochs, that the attempt began with. 0 means from the
    start."""


@dataclass(frozen=True)
class Failed:
    """An attempt of a shard has ended without a commit."""

    shard: Shard
    attempt_id: str
    kind: FailureKind
    error: str
    """What went wrong, in one line."""
    traceback: str
    quarantined: bool
    """True if the shard is not tried again in this submission."""
    worker: WorkerInfo


@dataclass(frozen=True)
class Suspended:
    """An attempt of a shard was halted with a checkpoint. The shard waits for its next attempt."""

    shard: Shard
    worker: WorkerInfo
    reached: float
    """How far the checkpoint is, in epochs."""


@dataclass(frozen=True)
class Trouble:
    """Something that the user should know, although the sweep goes on."""

    message: str


@dataclass(frozen=True)
class Waiting:
    """The cluster has no room for some workers. They start when there is room."""

    workers: int
    """The number of workers without room."""
    each: str
    """What each of them needs, in words."""
    room: int
    """The number of such workers that the cluster has room for."""
    longest_s: float
    """If there is no worker at all for so many seconds, the sweep ends."""

    def __str__(self) -> str:
        return (
            f"waiting for {counted(self.workers, 'more worker')} of {self.each}: the cluster has "
            f"room for {self.room} now"
            + (f"; the sweep waits for {self.longest_s / 60:.0f} minutes" if not self.room else "")
        )


@dataclass(frozen=True)
class AtWork:
    """An attempt of a shard that runs."""

    share: float
    """The share of it that is done, from 0 to 1."""
    hostname: str
    """The name of its worker's host."""


@dataclass(frozen=True)
class Running:
    """All that is at work now."""

    shards: Mapping[str, AtWork]
    """By shard id."""
    workers: tuple[WorkerInfo, ...]
    """All workers that are ready, busy or idle."""


Event = Joined | Finished | Failed | Suspended | Trouble | Waiting | Running
