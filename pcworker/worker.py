"""A worker: it holds one engine, trains shards and writes their results to the store.

On a CPU it trains one shard at a time. A GPU is not full of one shard, so a worker has as many
places there as fill it, and trains a shard in each, in a thread of its own.

It knows nothing of Ray. `pcworker.actor` makes a Ray actor of it, and
`cluster.driver.pools.in_process` runs it in the driver's own process.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from pcworker.errors import HaltedError, InputError, StoreError
from pcworker.machine.provenance import WorkerProvenance, provenance, result_fingerprint
from pcworker.store.checkpoints import Checkpoints
from pcworker.store.commit import CommitOutcome, commit_shard
from pcworker.store.keys import SweepKeys
from pcworker.store.patient import PatientStore
from pcworker.store.result import Result, Tables
from pcworker.store.store import Store
from pcworker.training.checkpoint import Checkpoint
from pcworker.trials.trial import Trial

if TYPE_CHECKING:
    import torch


class Trains(Protocol):
    """The engine of an experiment, as a worker uses it. `pcworker.training.engine.Engine` is one.

    An engine that makes no checkpoints ignores the last four arguments. Halted, it goes on to the
    end of its shard, because nothing would be kept if it stopped.
    """

    def run(
        self,
        trials: Sequence[Trial[Any]],
        *,
        max_width: int | None,
        report: Callable[[float], None],
        resume: Checkpoint | None,
        checkpoint_every: int,
        save: Callable[[Checkpoint], None],
        halted: Callable[[], bool],
    ) -> Result:
        """Trains a shard. `pcworker.training.engine.Engine.run` explains the arguments."""


@dataclass(frozen=True)
class Work:
    """All workers of a sweep are told the same things, which are these."""

    sweep: str
    store: Store
    device: str
    """"auto", "cpu" or "cuda"."""
    cpus: int
    """The number of threads that a worker computes with on a CPU."""
    make_engine: Callable[[Any, "torch.device"], Trains]
    """Makes an engine for the data on a device."""
    tables: Tables
    """The tables that a shard's results are written to."""
    checkpoint_every: int = 1
    """The number of epochs between two checkpoints. 0 means no checkpoints, so that a worker does
    not stop when it is halted."""
    command: tuple[str, ...] = ()
    """The driver's command line, which is stored beside every result."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """The environment variables with which a worker's process must start."""
    exact_sums: str | None = "fixed"
    """The sums of its trials, if a worker is to refuse to start on a device that is not exact."""
    places: int | None = 1
    """The number of shards that a worker trains at the same time. None: as many as fill its share
    of a GPU, and one on a CPU."""
    gpu_share: float = 1.0
    """The share of a GPU that each worker has."""


@dataclass(frozen=True)
class Doing:
    """What an attempt is doing."""

    share: float = 0.0
    """The share of the shard's work that is done, from 0 to 1."""
    storing: bool = False
    """True while it reads from the store or writes to it."""


@dataclass(frozen=True)
class Place:
    """The place where a worker runs, as whoever starts it knows."""

    hostname: str
    """The host's name, with the node's id where several nodes are on one host."""
    node_id: str
    """The id that Ray gave to the node. It is empty where there is no Ray."""
    gpus: int
    """The number of GPUs that were assigned to the worker's process."""


@dataclass(frozen=True)
class Report:
    """A worker returns this when an attempt has ended in a commit."""

    outcome: CommitOutcome
    wall_seconds: float
    """The seconds of training, those before a resumed checkpoint included."""
    resumed_from: float
    """How far the checkpoint was, in epochs, that the attempt began with. 0 means from the
    start."""
    updates: int
    """The number of weight updates of all trials."""
    commit_seconds: float
    """The seconds from the end of the training to the commit."""


@dataclass(frozen=True)
class Halted:
    """A worker returns this when an attempt has ended early, because the worker was halted. That is
    no failure: the next attempt goes on from the checkpoint, with the same bits."""

    reached: float
    """How far the checkpoint is, in epochs. 1.5 is the middle of the second one."""
    wall_seconds: float
    """The seconds of training that the checkpoint holds."""


class Worker:
    """An engine on one device, and the store that its results go to."""

    def __init__(self, work: Work, data: Any, place: Place) -> None:
        """Raises InputError, which the driver shows, if the work cannot be done here."""
        from pcworker.kernels.exactness import require_exact
        from pcworker.machine.device import device_name, numerics, places, prepare_device

        self._work, self._keys = work, SweepKeys(work.sweep)
        self._store = PatientStore(work.store)
        self._require_the_drivers_store()
        device = prepare_device(work.device, gpus=place.gpus, cpus=work.cpus)
        sums = work.exact_sums
        self._trouble = None if sums is None else require_exact(device, sums).kernel_trouble
        self._places = work.places or places(device, work.gpu_share)
        self._engine = work.make_engine(data, device)
        # This is read now, because the sources may be edited while the worker lives.
        here = replace(provenance(work.command), hostname=place.hostname)
        self._where = WorkerProvenance(
            **vars(here),
            sweep=work.sweep,
            device=device_name(device),
            node_id=place.node_id,
            numerics=numerics(),
        )
        self._halted = threading.Event()
        self.progress: dict[str, Doing] = {}
        """By attempt id, for each attempt that runs or has failed."""

    def describe(self) -> tuple[dict[str, Any], str | None]:
        """Says who this worker is: the values of a `cluster.driver.events.WorkerInfo`. The second
        value is what the user should know although the worker works, in one line."""
        names = ("hostname", "node_id", "device")
        who = {"pid": os.getpid(), **{name: getattr(self._where, name) for name in names}}
        return who | {"places": self._places}, self._trouble

    def halt(self) -> None:
        """Asks all attempts to save a checkpoint after their next weight updates, and to end. An
        attempt that begins later does so, too: a halted worker is to be ended.

        This returns at once, and may be called from any thread. An attempt that is near its end
        may still commit. One whose engine makes no checkpoints goes on to its end.
        """
        self._halted.set()

    def run(
        self,
        shard_id: str,
        attempt_id: str,
        trials: Sequence[Trial[Any]],
        max_width: int | None,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Report | Halted:
        """Trains a shard, and commits it unless the worker is halted. As many threads as there are
        places may call this at the same time.

        max_width  the most trials in one stack; None: all of them
        meanwhile  is called now and then while the shard is trained
        """

        def report(share: float) -> None:
            self.progress[attempt_id] = Doing(share)
            meanwhile()

        def save(checkpoint: Checkpoint) -> None:
            with self._storing(attempt_id):
                checkpoints.save(checkpoint)

        report(0.0)
        maker = result_fingerprint(self._where, trials[0].configuration.sums)
        checkpoints = Checkpoints(self._store, self._keys, shard_id, attempt_id, maker, trials)
        every = self._work.checkpoint_every
        with self._storing(attempt_id):
            resume = checkpoints.latest() if every else None
        try:
            result = self._engine.run(
                trials,
                max_width=max_width,
                report=report,
                resume=resume,
                checkpoint_every=every,
                save=save,
                halted=self._halted.is_set,
            )
        except HaltedError as halted:
            del self.progress[attempt_id]
            return Halted(halted.reached, halted.seconds)
        trained = time.monotonic()
        device = ", ".join(filter(None, (self._where.device, result.kernel)))
        where = replace(self._where, device=device)
        with self._storing(attempt_id):
            outcome = commit_shard(
                self._store, self._keys, shard_id, attempt_id, result, self._work.tables, where
            )
            commit_seconds = time.monotonic() - trained
            with suppress(StoreError):  # It is committed, and the driver tidies up in the end.
                if every:
                    checkpoints.clear()
        del self.progress[attempt_id]
        return Report(
            outcome=outcome,
            wall_seconds=result.wall_seconds,
            resumed_from=resume.reached if resume else 0.0,
            updates=result.updates,
            commit_seconds=commit_seconds,
        )

    @contextmanager
    def _storing(self, attempt_id: str) -> Iterator[None]:
        """Says meanwhile that an attempt is at the store."""
        self.progress[attempt_id] = replace(self.progress[attempt_id], storing=True)
        yield
        self.progress[attempt_id] = replace(self.progress[attempt_id], storing=False)

    def _require_the_drivers_store(self) -> None:
        """Raises InputError, before an hour of training, if this worker cannot write to the store
        or the store is not the one that the driver sees."""
        store, host = self._store, socket.gethostname()
        try:
            seen = store.get(self._keys.plan) is not None
            store.check()
        except StoreError as error:
            raise InputError(f"on {host}: {error}") from error
        if not seen:
            raise InputError(
                f"on {host}: store {store.url} holds no plan of sweep {self._work.sweep}: it is "
                "not the store that the driver sees; give an s3:// store, or a directory that "
                "every node shares"
            )
