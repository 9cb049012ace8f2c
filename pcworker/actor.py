"""A worker as a Ray actor: Ray says where it runs, and its metrics go to Ray."""

import socket
from collections.abc import Sequence
from typing import Any

import ray
from ray.util.metrics import Counter, Histogram

from pcworker.machine.provenance import node_name
from pcworker.trials.trial import Trial
from pcworker.worker import Doing, Halted, Place, Report, Work, Worker

COMMIT_SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""The boundaries, in seconds, of the buckets in which commits are counted."""


class WorkerActor:
    """A `Worker` in a process of its own. `ray.remote` makes an actor of this class."""

    def __init__(self, work: Work, data: Any) -> None:
        """Raises InputError, which the driver shows, if this node cannot do the work."""
        node_id = ray.get_runtime_context().get_node_id()
        name = node_name(socket.gethostname(), node_id, ray.nodes())
        self._worker = Worker(work, data, Place(name, node_id, _gpus()))
        self._updates = Counter("zilsweep_updates", "Weight updates.", tag_keys=("sweep",))
        self._commit_seconds = Histogram(
            "zilsweep_commit_seconds",
            "From the end of a shard's training to its commit.",
            boundaries=list(COMMIT_SECONDS),
            tag_keys=("sweep",),
        )
        for metric in (self._updates, self._commit_seconds):
            metric.set_default_tags({"sweep": work.sweep})

    def describe(self) -> tuple[dict[str, Any], str | None]:
        """See `Worker.describe`."""
        return self._worker.describe()

    @ray.method(concurrency_group="control")
    def progress(self) -> dict[str, Doing]:
        """See `Worker.progress`. It is answered while shards are trained."""
        return dict(self._worker.progress)

    @ray.method(concurrency_group="control")
    def halt(self) -> None:
        """See `Worker.halt`. It is obeyed while shards are trained."""
        self._worker.halt()

    def run(
        self, shard_id: str, attempt_id: str, trials: Sequence[Trial[Any]], max_width: int | None
    ) -> Report | Halted:
        """Trains a shard, commits it, and counts both in Ray's metrics."""
        report = self._worker.run(shard_id, attempt_id, trials, max_width)
        if isinstance(report, Report):
            self._updates.inc(report.updates)
            self._commit_seconds.observe(report.commit_seconds)
        return report


def _gpus() -> int:
    """The number of GPUs that Ray assigned to this process."""
    return len(ray.get_gpu_ids())
