"""The Ray actor: one engine, one shard at a time, results straight to the store."""

import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import ray
from ray.util.metrics import Counter, Histogram

from pcworker.errors import InputError, StoreError
from pcworker.machine.provenance import provenance, result_fingerprint
from pcworker.store.checkpoints import Checkpoints
from pcworker.store.commit import commit_shard
from pcworker.store.keys import SweepKeys
from pcworker.store.patient import PatientStore
from pcworker.store.result import Result, Tables
from pcworker.store.store import Store
from pcworker.training.checkpoint import Checkpoint
from pcworker.trials.trial import Trial

if TYPE_CHECKING:
    import torch

COMMIT_SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


class Trains(Protocol):
    """What a worker needs of an engine: `pcworker.training.engine.Engine` is one."""

    def run(
        self,
        trials: Sequence[Trial[Any]],
        *,
        max_width: int | None,
        report: Callable[[float], None],
        resume: Checkpoint | None,
        checkpoint_every: int,
        save: Callable[[Checkpoint], None],
    ) -> Result:
        """As `Engine.run`."""


@dataclass(frozen=True)
class Work:
    """What all workers of a sweep are told."""

    sweep: str
    store: Store
    device: str
    """"auto", "cpu" or "cuda"."""
    cpus: int
    make_engine: Callable[[Any, "torch.device"], Trains]
    """From the data and the device."""
    tables: Tables
    """How its results are written."""
    checkpoint_every: int = 1
    """Epochs; 0: no checkpoints."""
    command: tuple[str, ...] = ()
    """The command line, for the record."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables with which a worker's process starts."""
    tries_exactness: bool = True
    """Whether a worker starts only on a device that is exact."""


class Worker:
    """Holds an engine on the device that Ray assigned to its process."""

    def __init__(self, work: Work, data: Any) -> None:
        """Raises InputError, which the driver shows, where this node cannot do the work."""
        from pcworker.kernels.exactness import require_exact
        from pcworker.machine.device import device_name, numerics, prepare_device

        self._work, self._keys = work, SweepKeys(work.sweep)
        self._store = PatientStore(work.store)
        self._require_the_drivers_store()
        device = prepare_device(work.device, gpus=len(ray.get_gpu_ids()), cpus=work.cpus)
        if work.tries_exactness:
            require_exact(device)
        self._engine = work.make_engine(data, device)
        self._where = {  # of the code that runs, should it be edited meanwhile
            **provenance(),
            **numerics(),
            "sweep": work.sweep,
            "hostname": _node_name(),
            "node_id": ray.get_runtime_context().get_node_id(),
            "device": device_name(device),
            "command": list(work.command),
        }
        self._progress: tuple[str, float] = ("", 0.0)
        tags = {"sweep": work.sweep}
        self._updates = Counter("zilsweep_updates", "Weight updates.", tag_keys=("sweep",))
        self._commit_seconds = Histogram(
            "zilsweep_commit_seconds",
            "From the end of a shard's training to its commit.",
            boundaries=list(COMMIT_SECONDS),
            tag_keys=("sweep",),
        )
        for metric in (self._updates, self._commit_seconds):
            metric.set_default_tags(tags)

    def describe(self) -> dict[str, Any]:
        """Who this is: the values of `cluster.driver.events.WorkerInfo`."""
        names = ("hostname", "node_id", "device")
        return {"pid": os.getpid(), **{name: self._where[name] for name in names}}

    @ray.method(concurrency_group="control")
    def progress(self) -> tuple[str, float]:
        """The attempt that runs, and the share of it that is done."""
        return self._progress

    def run(
        self, shard_id: str, attempt_id: str, trials: Sequence[Trial[Any]], max_width: int | None
    ) -> dict[str, Any]:
        """Trains and commits a shard; returns the commit's outcome, the seconds of training and
        the epoch that it was resumed from."""

        def report(share: float) -> None:
            self._progress = (attempt_id, share)

        report(0.0)
        maker = result_fingerprint(self._where)
        checkpoints = Checkpoints(self._store, self._keys, shard_id, attempt_id, maker, trials)
        every, epochs = self._work.checkpoint_every, trials[0].configuration.epochs
        keeps = 0 < every < epochs
        resume = checkpoints.latest() if keeps else None
        result = self._engine.run(
            trials,
            max_width=max_width,
            report=report,
            resume=resume,
            checkpoint_every=every,
            save=checkpoints.save,
        )
        self._updates.inc(result.updates)
        trained = time.monotonic()
        device = ", ".join(filter(None, (self._where["device"], result.kernel)))
        where = {**self._where, "device": device}
        outcome = commit_shard(
            self._store, self._keys, shard_id, attempt_id, result, self._work.tables, where
        )
        self._commit_seconds.observe(time.monotonic() - trained)
        with suppress(StoreError):  # the shard is committed: the driver tidies up in the end
            if keeps:
                checkpoints.clear()
        return {
            "outcome": outcome,
            "wall_seconds": result.wall_seconds,
            "resumed_from": resume.epoch if resume else 0,
        }

    def _require_the_drivers_store(self) -> None:
        """Before an hour of training: this node can write to the store that the driver sees."""
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


def _node_name() -> str:
    """The host's name, with the node's id where several nodes are on this host."""
    host = socket.gethostname()
    here = [n for n in ray.nodes() if n["Alive"] and n["NodeManagerHostname"] == host]
    node_id: str = ray.get_runtime_context().get_node_id()
    return f"{host}/{node_id[:8]}" if len(here) > 1 else host
