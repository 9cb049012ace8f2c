"""A worker's needs, and the environment variables that Ray reads. This does not import Ray."""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pcworker.errors import InputError
from pcworker.text import counted

Growth = Literal["never", "by hand", "on demand"]
"""How a cluster gets more nodes. never: it is the Ray that the driver has started for itself. by
hand: somebody starts a node. on demand: Ray's autoscaler starts nodes for workers without room."""


@dataclass(frozen=True)
class Resources:
    """The workers that the user asked for."""

    workers: int | None
    """The number of workers. None: as many as fit."""
    cpus: float
    """The CPU cores of each worker."""
    gpus: float
    """The GPUs of each worker. A fraction means that workers share one."""
    device: str
    """"auto", "cpu" or "cuda"."""
    cpu_workers: int = 0
    """The number of CPU workers beside workers with GPUs. Each takes `cpus`."""

    def __post_init__(self) -> None:
        if self.device == "cuda" and self.gpus == 0:
            raise InputError("device cuda with 0 GPUs per worker: give --gpus-per-worker 1, say")
        if self.cpu_workers and self.gpus == 0:
            raise InputError(
                f"--cpu-workers {self.cpu_workers} is for CPU workers beside GPU workers: give "
                "--gpus-per-worker 1, say, or --workers in its place"
            )
        for name, amount in (("cpus", self.cpus), ("gpus", self.gpus)):
            fraction, whole = 0.001 <= amount <= 1, amount >= 0 and amount == amount // 1
            if not (fraction or whole) or amount == math.inf or (name == "cpus" and amount == 0):
                raise InputError(
                    f"{amount:g} {name} per worker: give a whole number, or a share of one from "
                    "0.001 to 1"
                )

    @property
    def beside(self) -> "Resources | None":
        """The needs of the CPU workers beside the GPU workers. None: there are to be none."""
        if not self.cpu_workers:
            return None
        return Resources(self.cpu_workers, self.cpus, gpus=0.0, device="cpu")

    def __str__(self) -> str:
        gpus = f" and {counted(self.gpus, 'GPU')}" if self.gpus else ""
        return f"{counted(self.cpus, 'CPU core')}{gpus}"


def device_of(resources: Resources) -> dict[str, Any]:
    """The fields of a configuration that say on which device a worker's shards are timed."""
    wanted = resources.device == "cuda" or (resources.device == "auto" and resources.gpus > 0)
    return {"device_kind": "cuda" if wanted else "cpu", "threads": max(1, int(resources.cpus))}


def workers_that_fit(nodes: Sequence[Mapping[str, float]], needs: Resources) -> int:
    """Returns how many workers fit into a cluster. A worker must fit on one node.

    nodes  the resources of each node: {"CPU": 8.0, "GPU": 1.0, ...}
    """
    return sum(_on_node(node, needs) for node in nodes)


def require_room(
    nodes: Sequence[Mapping[str, float]], needs: Resources, growth: Growth = "never"
) -> None:
    """Raises InputError if the workers will never fit.

    On a cluster that does not grow, all workers that the user asked for must fit. On another one a
    single worker is enough, and while it has no core at all, its first nodes may still come.
    """
    fit = workers_that_fit(nodes, needs)
    if growth == "on demand" or (growth == "by hand" and (fit or not _sum(nodes, "CPU"))):
        return
    if fit >= (needs.workers or 1):
        if needs.beside is not None:
            _require_room_beside(nodes, needs, needs.beside)
        return
    raise InputError(
        f"{counted(needs.workers or 1, 'worker')} of {needs} cannot fit: the cluster has "
        f"{_in_words(nodes)}; lower --workers, --cpus-per-worker or --gpus-per-worker"
    )


def lack_of_room(nodes: Sequence[Mapping[str, float]], needs: Resources) -> str | None:
    """Returns, in words, how few of the workers fit on the nodes that are there. None: all fit."""
    fit, wanted = workers_that_fit(nodes, needs), needs.workers or 1
    if fit >= wanted:
        return None
    room = f"{fit:,} of {counted(wanted, 'worker')} of {needs}"
    return f"there is room for {room} now: the cluster has {_in_words(nodes)}"


def _sum(nodes: Sequence[Mapping[str, float]], resource: str) -> float:
    return sum(node.get(resource, 0.0) for node in nodes)


def _in_words(nodes: Sequence[Mapping[str, float]]) -> str:
    cpus, gpus = _sum(nodes, "CPU"), _sum(nodes, "GPU")
    there = f"{counted(cpus, 'CPU core')} and {counted(gpus, 'GPU')}"
    return f"{there} on {counted(len(nodes), 'node')}"


def _require_room_beside(
    nodes: Sequence[Mapping[str, float]], needs: Resources, beside: Resources
) -> None:
    """Raises InputError if the CPU workers do not fit beside the GPU workers."""
    left, missing = [], needs.workers or workers_that_fit(nodes, needs)
    for node in nodes:
        here = min(missing, _on_node(node, needs))
        missing -= here
        left.append({"CPU": node.get("CPU", 0.0) - here * needs.cpus})
    room = workers_that_fit(left, beside)
    if room < needs.cpu_workers:
        raise InputError(
            f"--cpu-workers {needs.cpu_workers}: beside the GPU workers there is room for "
            f"{counted(room, 'worker')} of {beside}; lower --cpu-workers or --cpus-per-worker"
        )


def _on_node(node: Mapping[str, float], needs: Resources) -> int:
    wants = (("CPU", needs.cpus), ("GPU", needs.gpus))
    rooms = [node.get(name, 0.0) / amount for name, amount in wants if amount > 0]
    return math.floor(min(rooms) + 1e-9)


def ray_environment(address: str | None) -> str | None:
    """Sets the environment variables that Ray reads when it is imported. Returns the address to
    connect to, or None if a local Ray is to be started.

    address  the address that the user gave. Without one RAY_ADDRESS counts, which a submitted job
             has.
    """
    address = address or os.environ.get("RAY_ADDRESS") or None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # With this a worker without a GPU keeps its CUDA_VISIBLE_DEVICES, as will be Ray's default.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if address is None:
        # If this is off, a local Ray binds to 127.0.0.1 only. In spite of its name that holds on
        # Linux too.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    elif ray_token() is not None:
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # Ray would not send it by itself.
    return address


def ray_token() -> str | None:
    """Returns the token for a cluster, from where Ray looks for it, or None if there is none."""
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token
    default = Path.home() / ".ray" / "auth_token"
    try:
        return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or default).read_text().strip() or None
    except OSError:
        return None
