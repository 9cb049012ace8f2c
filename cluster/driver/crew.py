"""Says in one line which workers a sweep uses."""

from collections import Counter
from collections.abc import Iterable

from cluster.driver.events import WorkerInfo
from pcworker.text import counted

_CUDA = "cuda: "
"""The names of GPUs begin with this: see `pcworker.machine.device.device_name`."""


def in_words(workers: Iterable[WorkerInfo]) -> str:
    """Returns, for example, "1 GPU worker (NVIDIA H100, 11 shards at once) and 6 CPU workers"."""
    kinds = Counter((_gpu(worker), worker.places) for worker in workers)
    return " and ".join(
        f"{counted(count, 'GPU worker' if gpu else 'CPU worker')}{_more(gpu, places)}"
        for (gpu, places), count in sorted(kinds.items(), reverse=True)
    )


def _gpu(worker: WorkerInfo) -> str:
    """The name of a worker's GPU. It is empty if the worker computes on a CPU."""
    return worker.device.removeprefix(_CUDA) if worker.device.startswith(_CUDA) else ""


def _more(gpu: str, places: int) -> str:
    at_once = f"{places} shards at once" if places > 1 else ""
    known = ", ".join(filter(None, (gpu, at_once)))
    return f" ({known})" if known else ""
