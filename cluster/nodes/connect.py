"""The connection of a driver to a Ray cluster, and what the cluster has."""

import os
import signal
import socket
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR
from ray.exceptions import RayError

from cluster.nodes.shipping import require_fits, shipped
from pcworker.errors import InputError, first_line
from pcworker.machine.provenance import ROOT

REACH_S = 5


@dataclass(frozen=True)
class Connection:
    """To a Ray that runs."""

    where: str
    """In words: which cluster, and what it has."""
    local: bool
    """Whether this process has started it, for itself alone."""
    dashboard: str | None
    """The dashboard's URL, as it is on the machine that it runs on."""


@contextmanager
def connected(address: str | None, *, ships: bool = False) -> Iterator[Connection]:
    """A connection to Ray.

    address  None: a new local Ray, on the loopback interface, that ends with this process;
             "auto" or HOST:PORT: that cluster. InputError if it cannot be reached.
    ships    to a cluster the sources go along, as with a submitted job
    """
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address not in (None, "auto"):
        _check_reachable(address)
    try:
        if address is None:
            memory = 512 * 2**20  # the digits take 55 MB; weights never travel through Ray
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
        # Ray has put its own there, which dumps a stack; a stopped job should end as by Ctrl-C
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
    try:
        dashboard = context.dashboard_url or None
        yield Connection(_describe_cluster(address), address is None, dashboard)
    finally:
        ray.shutdown()


def nodes(but: Collection[str] = ()) -> list[Mapping[str, float]]:
    """What each living node has in all, used or not; `but` are the ids of nodes to leave out."""
    living = (node for node in ray.nodes() if node["Alive"])
    return [node["Resources"] for node in living if node["NodeID"] not in but]


def _sources() -> dict[str, Any]:
    """For nodes that have the libraries alone. A submitted job's sources are on their way already;
    an image has no .rayignore, and its nodes hold the code."""
    if RAY_JOB_CONFIG_JSON_ENV_VAR in os.environ or not (ROOT / ".rayignore").is_file():
        return {}
    require_fits(shipped(ROOT))
    return {"runtime_env": {"working_dir": str(ROOT)}}


def _check_reachable(address: str) -> None:
    """Ray itself tries an address for minutes before it gives up."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit() and "/" not in address):
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
    also = f", {gpus:g} GPU(s)" if gpus else ""
    return f"{what}: {len(living)} node(s), {cpus:g} CPU core(s){also}"
