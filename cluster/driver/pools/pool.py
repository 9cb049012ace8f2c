"""The seam between the dispatcher and its workers: a pool, which knows where the workers run.

`cluster.driver.pools.on_ray` has them on a Ray cluster, and `cluster.driver.pools.in_process` has
one in the driver's own process.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster.driver.events import Joined, Trouble, WorkerInfo
from cluster.driver.failures import Failure
from cluster.sweeps.plan import Shard
from pcworker.worker import Report

POLL_S = 0.5
"""The seconds between two looks at what runs."""


@dataclass(frozen=True)
class Ended:
    """An attempt has ended."""

    attempt_id: str
    worker: WorkerInfo
    result: Report | Failure
    """A report if the attempt ended in a commit, and a failure if it did not."""
    share: float
    """The share from 0 to 1 of the shard's work that was done, as far as the pool knows."""


class Pool(Protocol):
    """The workers of one sweep."""

    @property
    def workers(self) -> Sequence[WorkerInfo]:
        """The workers that are ready, whether they are busy or idle."""

    @property
    def idle(self) -> int:
        """The number of workers that are ready and have nothing to do."""

    def start(
        self, shards: int, beat: Callable[[], None] = lambda: None
    ) -> Sequence[Joined | Trouble]:
        """Starts workers for so many shards, and returns once there are some.

        `beat` is called now and then during the wait. Raises InputError if no worker can start.
        """

    def resize(self, shards: int) -> None:
        """Starts the workers that are wanting for so many shards, and does not wait for them."""

    def submit(self, attempt_id: str, shard: Shard, max_width: int | None) -> WorkerInfo:
        """Gives a shard to an idle worker, and returns which worker that is.

        max_width  the most trials in one stack; None: all of them
        """

    def wait(self, meanwhile: Callable[[], None]) -> Sequence[Ended | Joined | Trouble]:
        """Waits for something to happen, and returns what has happened, which may be nothing.

        `meanwhile` is called now and then during the wait. Raises InputError if there is no hope
        left that anything happens. A worker whose attempt has failed is dismissed.
        """

    def shares(self) -> Mapping[str, float]:
        """Returns, by attempt id, the share from 0 to 1 of each running attempt's work that is
        done. If a worker does not answer, it is the share that it told last."""

    def avoid(self, suspects: Collection[str]) -> set[str]:
        """Dismisses the workers on these nodes, and starts no more there. Returns the ids of the
        nodes that were not avoided before.

        Nothing happens if no other node has room for a worker.
        """
