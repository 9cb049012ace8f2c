"""Connects a driver to a Ray cluster, and says what the cluster has."""

import math
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray._private import state
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR
from ray.exceptions import RayError

from cluster.nodes.autoscaler import growth_of
from cluster.nodes.resources import Growth
from cluster.nodes.shipping import require_fits, shipped
from pcworker.errors import InputError, first_line
from pcworker.machine.provenance import ROOT
from pcworker.text import counted

REACH_S = 5
"""The seconds in which a cluster's head must accept a connection."""


@dataclass(frozen=True)
class Connection:
    """A connection to a Ray that runs."""

    where: str
    """Which cluster it is and what it has, in words."""
    local: bool
    """True if this process has started the Ray for itself alone."""
    dashboard: str | None
    """The dashboard's URL, as it is on the machine where the dashboard runs."""
    growth: Growth
    """How it gets more nodes."""


@contextmanager
def connected(address: str | None, *, ships: bool = False) -> Iterator[Connection]:
    """Connects to Ray, and disconnects in the end. InputError if Ray cannot be reached.

    address  None: a new local Ray is started, on the loopback interface, and ends with this
             process. "auto" or HOST:PORT: the cluster there is used.
    ships    True: the sources are sent to the cluster, as with a submitted job
    """
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address not in (None, "auto"):
        _check_reachable(address)
    try:
        if address is None:
            memory = 512 * 2**20  # The digits take 55 MB. Weights never travel through Ray.
            context = ray.init(
                "local", include_dashboard=False, object_store_memory=memory, **quiet
            )
        else:
            context = ray.init(address, **quiet, **(_sources() if ships else {}))
    except (ConnectionError, RayError, ValueError, RuntimeError) as error:
        raise InputError(
            f"Ray at {address or 'this machine'} cannot be reached: {first_line(error)}; "
            "check --address, RAY_ADDRESS and the cluster's token"
        ) from error
    if threading.current_thread() is threading.main_thread():
        # Ray has put its own handler there, which dumps a stack. A job that is stopped should end
        # as it does by Ctrl-C.
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
    try:
        dashboard = context.dashboard_url or None
        local = address is None
        yield Connection(_describe_cluster(address), local, dashboard, growth_of(local))
    finally:
        ray.shutdown()


def nodes(but: Collection[str] = ()) -> list[Mapping[str, float]]:
    """Returns what each living node has in all, used or not.

    but  the ids of the nodes to leave out
    """
    living = (node for node in ray.nodes() if node["Alive"])
    return [node["Resources"] for node in living if node["NodeID"] not in but]


def draining() -> dict[str, float]:
    """Returns the living nodes that are to be taken away soon, by id: the seconds that are left. It
    is infinity where nobody has set a deadline."""
    deadlines = state.state.get_draining_nodes().items()
    now = time.time()
    return {node: at / 1000 - now if at else math.inf for node, at in deadlines}


def _sources() -> dict[str, Any]:
    """Returns the options of `ray.init` that send the sources to nodes which have only libraries.

    There are none in a submitted job, whose sources Ray sends already, nor in an image, which has
    no .rayignore and whose nodes hold the code.
    """
    if RAY_JOB_CONFIG_JSON_ENV_VAR in os.environ or not (ROOT / ".rayignore").is_file():
        return {}
    require_fits(shipped(ROOT))
    return {"runtime_env": {"working_dir": str(ROOT)}}


def _check_reachable(address: str) -> None:
    """Raises InputError if nobody listens at the address. Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not (host and re.fullmatch("[0-9]{1,5}", port) and "/" not in address):
        raise InputError(
            f"Ray address {address!r}: give auto, or HOST:PORT of the cluster's head (port 6379 as "
            "a rule; the address with http:// is the dashboard's)"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_S).close()
    except OSError as error:
        raise InputError(
            f"Ray at {address} cannot be reached: {error}; check --address, RAY_ADDRESS, and "
            "whether the cluster is up"
        ) from error


def _describe_cluster(address: str | None) -> str:
    living = nodes()
    cpus, gpus = (sum(node.get(name, 0.0) for node in living) for name in ("CPU", "GPU"))
    what = "a local Ray on this machine" if address is None else f"the Ray cluster at {address}"
    also = f", {counted(gpus, 'GPU')}" if gpus else ""
    return f"{what}: {counted(len(living), 'node')}, {counted(cpus, 'CPU core')}{also}"
