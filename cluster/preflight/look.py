"""Looks before a sweep: at the store, at the cluster, at every node with room for a worker.

Ray is imported here: `ray_environment` comes first. What is found is judged by `verdicts`.
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
from cluster.nodes.resources import Resources, require_room, workers_that_fit
from cluster.preflight.findings import DashboardFound, NodeFound, RayFound, StoreFound
from cluster.preflight.node import disk, knock, look, look_at_device
from pcworker.errors import InputError, OverwritingError, StoreError
from pcworker.store.store import Store

NODE_S = 60.0
"""In which a node must answer: its Python starts, imports torch and perhaps compiles `fused.c`."""
CLOCK_S = 10.0
"""In which the process that has answered must say what time it is."""
KNOCK_S = 5.0
DASHBOARD_S = 20.0
"""For a process on the head to start and to try its dashboard."""
_FACTS = tuple(f.name for f in fields(NodeFound) if f.name not in ("name", "silent", "ahead_s"))
_LACKING = re.compile(r"No module named '[\w.]+'")
_SHIP = " (python -m jobs.submit ships the sources; libraries must be installed there)"
_WITHOUT_TOKEN = "/ray.rpc.NodeInfoGcsService/CheckAlive"
"""A harmless question that a Ray in token mode answers only to who has the token."""


def look_at_store(store: Store) -> StoreFound:
    """What `Store.check` finds, told apart; the probe is gone afterwards."""
    seen: dict[str, Any] = {"url": store.url}
    try:
        store.list("probe/")
        sent = time.time()
        clock = store.clock()
        seen["ahead_s"] = None if clock is None else ahead(sent, clock, time.time(), tick=1.0)
    except StoreError as error:
        return StoreFound(**seen, unreachable=str(error))
    if "://" not in store.url:
        seen["free_bytes"] = disk(store.url)[0]
    try:
        store.check()
    except OverwritingError as error:
        return StoreFound(**seen, overwrites=str(error))
    except StoreError as error:
        return StoreFound(**seen, unwritable=str(error))
    return StoreFound(**seen)


def look_at_ray(
    to: Connection,
    needs: Resources,
    *,
    images: str | None = None,
    ask_nodes: bool = True,
    node_s: float = NODE_S,
) -> RayFound:
    """What there is of a cluster that this process is connected to.

    images     a directory that every node must see
    ask_nodes  False: not the nodes themselves, of a local Ray
    node_s     seconds in which a node must answer
    """
    try:
        require_room(nodes(), needs)
        no_room = None
    except InputError as error:
        no_room = str(error)
    unasked = needs.device == "auto" and needs.gpus == 0
    context = ray.get_runtime_context()
    return RayFound(
        local=to.local,
        nodes=_ask_nodes(needs, images, node_s) if ask_nodes and no_room is None else (),
        no_room=no_room,
        idle_gpus=sum(node.get("GPU", 0.0) for node in nodes()) if unasked else 0.0,
        demands_token=demands_token(context.gcs_address),
        dashboard=None if to.dashboard is None else _dashboard(to.dashboard),
        disk=disk(_folder(_living()[0])) if to.local and not ask_nodes else None,
    )


def ahead(sent: float, there: float, received: float, tick: float = 0.0) -> float:
    """By how many seconds another clock is surely ahead of this one: it said `there` at some time
    between `sent` and `received`, in whole multiples of `tick`."""
    if there > received:
        return there - received
    return min(0.0, there + tick - sent)


def demands_token(gcs: str) -> bool | None:
    """Whether Ray refuses who has no token; None where it does not answer in plain gRPC."""
    with grpc.insecure_channel(gcs, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary(_WITHOUT_TOKEN)(b"", timeout=KNOCK_S)
        except grpc.RpcError as error:
            return True if error.code() is grpc.StatusCode.UNAUTHENTICATED else None
    return False


def _ask_nodes(needs: Resources, images: str | None, node_s: float) -> tuple[NodeFound, ...]:
    """What each node with room for a worker says, all asked at once."""
    asked = {n["NodeID"]: n for n in _living() if workers_that_fit([n["Resources"]], needs)}
    host = ray.remote(num_cpus=0, max_retries=0)(look)
    device = ray.remote(num_cpus=0, num_gpus=needs.gpus, max_retries=0)(_look_at_device)
    # a task that waits for a GPU which another sweep has waits for hours
    idle = available_resources_per_node()
    free = [n for n in asked if idle.get(n, asked[n]["Resources"]).get("GPU", 0.0) >= needs.gpus]
    hosts = {(n, "host"): _on(host, n).remote(_folder(asked[n]), images) for n in asked}
    devices = {(n, "device"): _on(device, n).remote(needs.device, int(needs.cpus)) for n in free}
    said = _answers(hosts | devices, node_s)
    clocks = _clocks([node for node in asked if not said[node, "host"].silence])
    nobody = _Answer({"busy": "its GPUs are at work"}, None)
    return tuple(
        _node(
            _name(node),
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
    """From what was said there."""
    if host.silence or (device.silence and not gpus):
        return NodeFound(name, host.silence or device.silence)
    facts = dict(host.value)
    if device.late:  # perhaps another driver has been faster, which is no fault
        facts["busy"] = f"no GPU was free, or none answered: {device.silence}"
    else:
        facts |= device.value or {"device_trouble": device.silence}
    # of a node with other sources only what has a name here
    known = {fact: facts[fact] for fact in _FACTS if fact in facts}
    return NodeFound(name, ahead_s=ahead_s, gpus=gpus, **known)


def _look_at_device(device: str, cpus: int) -> dict[str, Any]:
    """On a node."""
    return look_at_device(device, gpus=len(ray.get_gpu_ids()), cpus=cpus)


def _clocks(asked: list[str]) -> dict[str, float]:
    """By how much the clocks of nodes that have answered are ahead; their processes are warm."""
    task = ray.remote(num_cpus=0, max_retries=0)(_now)
    sent = time.time()
    said = _answers({node: _on(task, node).remote() for node in asked}, CLOCK_S)
    received = time.time()
    return {n: ahead(sent, a.value, received) for n, a in said.items() if not a.silence}


def _now() -> float:
    """On a node."""
    return time.time()


def _dashboard(url: str) -> DashboardFound:
    """Seen from the cluster's head, where it runs."""
    heads = [n["NodeID"] for n in _living() if "node:__internal_head__" in n["Resources"]]
    task = ray.remote(num_cpus=0, max_retries=0)(knock)
    said = _answers({head: _on(task, head).remote(url) for head in heads}, DASHBOARD_S)
    known = [answer.value for answer in said.values() if not answer.silence]
    return DashboardFound(url, **known[0]) if known else DashboardFound(url, None, True)


class _Answer(NamedTuple):
    """What a task has returned, or why it has not."""

    value: Any
    silence: str | None
    late: bool = False


def _answers(refs: Mapping[Any, Any], seconds: float) -> dict[Any, _Answer]:
    """By the keys of `refs`; tasks that are not done within `seconds` are left behind."""
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
    """A task that runs on this node and nowhere else."""
    return task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))


def _living() -> list[dict[str, Any]]:
    return [node for node in ray.nodes() if node["Alive"]]


def _folder(node: Mapping[str, Any]) -> str:
    """Of Ray's session on that node."""
    return str(Path(node["ObjectStoreSocketName"]).parent)


def _name(node: Mapping[str, Any]) -> str:
    """The host's name, with the node's id where several nodes are on that host."""
    host = str(node["NodeManagerHostname"])
    same = [other for other in _living() if other["NodeManagerHostname"] == host]
    return f"{host}/{node['NodeID'][:8]}" if len(same) > 1 else host
