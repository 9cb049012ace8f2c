"""The seam between the dispatcher and its workers: a pool, which knows where the workers run.

`cluster.driver.pools.on_ray` has them on a Ray cluster, and `cluster.driver.pools.in_process` has
one in the driver's own process.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cluster.driver.decide import Start
from cluster.driver.events import Joined, Trouble, Waiting, WorkerInfo
from cluster.driver.failures import Failure
from pcworker.worker import Halted, Report

POLL_S = 0.5
"""The seconds between two looks at what runs."""


@dataclass(frozen=True)
class Vacancy:
    """A worker that has a free place for a shard."""

    worker: WorkerInfo
    empty: bool
    """True if nothing runs on the worker."""
    slow: bool = False
    """True for a CPU worker beside GPU workers."""


@dataclass(frozen=True)
class Ended:
    """An attempt has ended."""

    attempt_id: str
    worker: WorkerInfo
    result: Report | Halted | Failure
    """A report if the attempt ended in a commit, and a failure if it did not. An attempt that was
    halted has done neither: it has saved a checkpoint, from which the next one goes on."""
    share: float
    """The share from 0 to 1 of the shard's work that was done, as far as the pool knows."""


@dataclass(frozen=True)
class Progress:
    """What a pool knows of an attempt that runs, by its worker's last answer."""

    share: float = 0.0
    """The share from 0 to 1 of the shard's work that is done."""
    storing: bool = False
    """True if the attempt reads from the store or writes to it."""
    answers: int = 0
    """The number of answers that its worker has given."""


class Pool(Protocol):
    """The workers of one sweep. A worker has one place for a shard, or several: then it trains as
    many shards at the same time."""

    @property
    def workers(self) -> Sequence[WorkerInfo]:
        """The workers that are ready, whether they are busy or idle."""

    @property
    def vacancies(self) -> Sequence[Vacancy]:
        """The workers that have a free place, each once. Those to fill first come first."""

    def start(
        self, shards: int, beat: Callable[[], None] = lambda: None
    ) -> Sequence[Joined | Waiting | Trouble]:
        """Starts workers for so many shards, and returns once there are some, or none has room now.

        `beat` is called now and then during the wait. Raises InputError if no worker can start.
        """

    def resize(self, shards: int) -> None:
        """Starts the workers that are wanting for so many shards, and does not wait for them. Ends
        the idle workers that no shard is left for, so that their nodes can go.

        shards  the number of shards without a commit, those at work included
        """

    def submit(self, worker: WorkerInfo, attempt_id: str, start: Start) -> None:
        """Gives a shard to a worker that has a vacancy. If the shard is to be alone, the worker has
        no vacancy until it has ended."""

    def wait(self, meanwhile: Callable[[], None]) -> Sequence[Ended | Joined | Waiting | Trouble]:
        """Waits for something to happen, and returns what has happened, which may be nothing.

        `meanwhile` is called now and then during the wait. Raises InputError if there is no hope
        left that anything happens. A worker whose attempt has failed gets no more work, and it is
        dismissed when its other attempts have ended. If it counts as lost, it is dismissed at once,
        and its other attempts are lost with it.
        """

    def progress(self) -> Mapping[str, Progress]:
        """Returns the progress of each running attempt, by attempt id, and asks the workers for
        their next answer. It does not wait for the answers."""

    def give_up(self, attempt_id: str, trouble: str) -> Ended | None:
        """Ends an attempt that hangs, together with its worker, and returns its end; None if it
        cannot be ended, or has just ended by itself.

        trouble  what is wrong with the attempt, in words
        """

    def halt(self, workers: Collection[WorkerInfo]) -> None:
        """Asks these workers to end their attempts, after the next weight updates and with a
        checkpoint. It does not wait for them.

        They get no more work. Each is dismissed when its attempts have ended, which `wait` returns,
        most of them as `Halted`. `resize` starts other workers in their place.
        """

    def avoid(self, suspects: Collection[str]) -> set[str]:
        """Dismisses the workers on these nodes, and starts no more there. Returns the ids of the
        nodes that were not avoided before.

        Nothing happens if no other node has room for a worker.
        """
