"""Looks at the cluster, and at every node with room for a worker, before a sweep.

This module imports Ray, so `ray_environment` must be called before it is imported. It only finds
facts: `cluster.preflight.checks` judges them.
"""

import re
import time
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import ray
from ray._private.state import available_resources_per_node
from ray.exceptions import RayError, RuntimeEnvSetupError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.nodes.connect import Connection, nodes
from cluster.nodes.errors import cause_of, environment_error
from cluster.nodes.resources import Resources, lack_of_room, require_room, workers_that_fit
from cluster.preflight.findings import DashboardFound, NodeFound, RayFound
from cluster.preflight.node import device_facts, disk, host_facts, knock
from cluster.preflight.store import ahead
from pcworker.errors import InputError
from pcworker.machine.provenance import node_name

NODE_S = 60.0
"""Seconds in which a node must answer. In this time its Python starts, imports torch and perhaps
compiles a kernel."""
CLOCK_S = 10.0
"""Seconds in which a process that has already answered must say what time it is."""
KNOCK_S = 5.0
"""Seconds in which Ray must answer a request without a token."""
DASHBOARD_S = 20.0
"""Seconds in which a process on the head must start and try the dashboard there."""
_FACTS = tuple(f.name for f in fields(NodeFound) if f.name not in ("name", "silent", "ahead_s"))
_LACKING = re.compile(r"No module named '[\w.]+'")
_SHIP = " (python -m jobs.submit ships the sources; libraries must be installed there)"
_WITHOUT_TOKEN = "/ray.rpc.NodeInfoGcsService/CheckAlive"
"""A harmless request. A Ray in token mode answers it only to clients that have the token."""


def look_at_ray(
    to: Connection,
    needs: Resources,
    *,
    sums: str,
    images: str | None = None,
    environment: Mapping[str, str] | None = None,
    ask_nodes: bool = True,
    node_s: float = NODE_S,
) -> RayFound:
    """Looks at the cluster that this process is connected to.

    sums         the sums of the trials, as in a configuration
    images       a directory that every node must see; None: there is none
    environment  variables with which the workers' processes will start
    ask_nodes    False: the nodes themselves are not asked; this is for a local Ray
    node_s       seconds in which a node must answer
    """
    there = nodes()
    try:
        require_room(there, needs, to.growth)
        no_room = None
    except InputError as error:
        no_room = str(error)
    unasked = needs.device == "auto" and needs.gpus == 0
    context = ray.get_runtime_context()
    return RayFound(
        local=to.local,
        nodes=_ask_nodes(needs, sums, images, environment or {}, node_s)
        if ask_nodes and no_room is None
        else (),
        no_room=no_room,
        lack=lack_of_room(there, needs),
        idle_gpus=sum(node.get("GPU", 0.0) for node in there) if unasked else 0.0,
        demands_token=demands_token(context.gcs_address),
        dashboard=None if to.dashboard is None else _dashboard(to.dashboard),
        disk=disk(_folder(_living()[0])) if to.local and not ask_nodes else None,
    )


def demands_token(gcs: str) -> bool | None:
    """True if Ray refuses clients without a token; None if it does not answer in plain gRPC."""
    with grpc.insecure_channel(gcs, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(_WITHOUT_TOKEN)(b"", timeout=KNOCK_S)
        except grpc.RpcError as error:
            return True if error.code() is grpc.StatusCode.UNAUTHENTICATED else None
    return False


def _ask_nodes(
    needs: Resources,
    sums: str,
    images: str | None,
    environment: Mapping[str, str],
    node_s: float,
) -> tuple[NodeFound, ...]:
    """Asks each node with room for a worker, all at the same time."""
    living = _living()
    asked = {n["NodeID"]: n for n in living if workers_that_fit([n["Resources"]], needs)}
    host = ray.remote(num_cpus=0, max_retries=0)(host_facts)
    how: dict[str, Any] = {"num_cpus": 0, "num_gpus": needs.gpus, "max_retries": 0}
    if environment:  # A runtime environment costs Ray time, even an empty one.
        how["runtime_env"] = {"env_vars": dict(environment)}
    device = ray.remote(**how)(_device_facts)
    # Only nodes with a free GPU are asked about it. On the others the task would wait for as long
    # as another sweep keeps the GPUs, which may be hours.
    idle = available_resources_per_node()
    free = [n for n in asked if idle.get(n, asked[n]["Resources"]).get("GPU", 0.0) >= needs.gpus]
    hosts = {(n, "host"): _on(host, n).remote(_folder(asked[n]), images) for n in asked}
    asks = (needs.device, int(needs.cpus), sums)
    devices = {(n, "device"): _on(device, n).remote(*asks) for n in free}
    said = _answers(hosts | devices, node_s)
    clocks = _clocks([node for node in asked if not said[node, "host"].silence])
    nobody = _Answer({"busy": "its GPUs are at work"}, None)
    return tuple(
        _node(
            node_name(node["NodeManagerHostname"], key, living),
            said[key, "host"],
            said.get((key, "device"), nobody),
            clocks.get(key),
            node["Resources"].get("GPU", 0.0) if needs.gpus else 0.0,
        )
        for key, node in asked.items()
    )


def _node(
    name: str, host: "_Answer", device: "_Answer", ahead_s: float | None, gpus: float
) -> NodeFound:
    """Puts the answers of a node's tasks together."""
    if host.silence or (device.silence and not gpus):
        return NodeFound(name, host.silence or device.silence)
    facts = dict(host.value)
    if device.late:  # perhaps another driver took the GPU first, which is no fault
        facts["busy"] = f"no GPU was free, or none answered: {device.silence}"
    else:
        facts |= device.value or {"device_trouble": device.silence}
    # A node with other sources may answer with facts that are unknown here. They are left out.
    known = {fact: facts[fact] for fact in _FACTS if fact in facts}
    return NodeFound(name, ahead_s=ahead_s, gpus=gpus, **known)


def _device_facts(device: str, cpus: int, sums: str) -> dict[str, Any]:
    """Runs on a node, where Ray has assigned the GPUs."""
    return device_facts(device, gpus=len(ray.get_gpu_ids()), cpus=cpus, sums=sums)


def _clocks(asked: list[str]) -> dict[str, float]:
    """The seconds by which the nodes' clocks are ahead of this one, by node id.

    asked  the nodes that have answered before: their processes run already, so they answer fast
    """
    task = ray.remote(num_cpus=0, max_retries=0)(_now)
    sent = time.time()
    said = _answers({node: _on(task, node).remote() for node in asked}, CLOCK_S)
    received = time.time()
    return {n: ahead(sent, a.value, received) for n, a in said.items() if not a.silence}


def _now() -> float:
    """Runs on a node: the time there, in seconds since the epoch."""
    return time.time()


def _dashboard(url: str) -> DashboardFound:
    """Tries the dashboard from the cluster's head, where it runs."""
    heads = [n["NodeID"] for n in _living() if "node:__internal_head__" in n["Resources"]]
    task = ray.remote(num_cpus=0, max_retries=0)(knock)
    said = _answers({head: _on(task, head).remote(url) for head in heads}, DASHBOARD_S)
    known = [answer.value for answer in said.values() if not answer.silence]
    return DashboardFound(url, **known[0]) if known else DashboardFound(url, None, True)


class _Answer(NamedTuple):
    """The result of a task, or the reason why there is none."""

    value: Any
    silence: str | None
    """Why the task has returned nothing. None: it has returned `value`."""
    late: bool = False
    """True if the task was not done in time."""


def _answers(refs: Mapping[Any, Any], seconds: float) -> dict[Any, _Answer]:
    """The answers of the tasks `refs`, by their keys. A task that is not done within `seconds` is
    cancelled."""
    if not refs:
        return {}
    ready, stuck = ray.wait(list(refs.values()), num_returns=len(refs), timeout=seconds)
    for ref in stuck:
        ray.cancel(ref, force=True)
    return {
        key: _get(ref) if ref in ready else _Answer(None, f"not within {seconds:.0f} s", True)
        for key, ref in refs.items()
    }


def _get(ref: Any) -> _Answer:
    try:
        return _Answer(ray.get(ref), None)
    except RuntimeEnvSetupError as error:
        return _Answer(None, str(environment_error(error)))
    except RayError as error:
        lacking = _LACKING.search(str(error))
        return _Answer(None, f"{lacking[0]}{_SHIP}" if lacking else cause_of(error))


def _on(task: Any, node: str) -> Any:
    """The task with the option that it runs on this node and nowhere else."""
    return task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))


def _living() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _folder(node: Mapping[str, Any]) -> str:
    """The folder of Ray's session on that node."""
    return str(Path(node["ObjectStoreSocketName"]).parent)
