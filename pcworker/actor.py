"""The Ray actor: one engine, one shard at a time, results straight to the store."""

import os
import socket
from collections.abc import Sequence
from typing import Any

import ray

from pcworker.commit import commit_shard
from pcworker.config import Trial
from pcworker.digits import Digits
from pcworker.layout import SweepKeys
from pcworker.provenance import provenance
from pcworker.store import open_store


class Worker:
    """Holds an engine on the device that Ray assigned to its process."""

    def __init__(self, digits: Digits, store_url: str, device: str, cpus: int) -> None:
        # torch is imported here, in the worker: the driver that plans and dispatches needs none
        from pcworker.device import device_name, prepare_device
        from pcworker.engine import Engine

        gpus = len(ray.get_gpu_ids())
        chosen = prepare_device(device, gpus=gpus, cpus=cpus)
        self._engine = Engine(digits, chosen)
        self._device_name = device_name(chosen)
        self._store = open_store(store_url)
        self._provenance = provenance()  # of the code that runs, should it be edited meanwhile
        self._progress: tuple[str, float] = ("", 0.0)

    def describe(self) -> dict[str, Any]:
        """Who this is: hostname, pid, node and device."""
        return {
            "hostname": socket.gethostname(),
            "pid": os.getpid(),
            "node_id": ray.get_runtime_context().get_node_id(),
            "device": self._device_name,
        }

    @ray.method(concurrency_group="control")
    def progress(self) -> tuple[str, float]:
        """The attempt that runs, and the share of it that is done."""
        return self._progress

    def run(
        self,
        sweep: str,
        shard_id: str,
        attempt_id: str,
        trials: Sequence[Trial],
        max_width: int | None,
    ) -> dict[str, Any]:
        """Trains and commits a shard; returns the commit's outcome and the seconds of training."""

        def report(share: float) -> None:
            self._progress = (attempt_id, share)

        report(0.0)
        result = self._engine.run(trials, max_width=max_width, report=report)
        where = {"sweep": sweep, "device": self._device_name, **self._provenance}
        outcome = commit_shard(self._store, SweepKeys(sweep), shard_id, attempt_id, result, where)
        return {"outcome": outcome, "wall_seconds": result.wall_seconds}
