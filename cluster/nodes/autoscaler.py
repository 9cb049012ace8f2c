"""Asks Ray about its autoscaler, which starts nodes for workers that have no room.

Ray has no public call for this. Only Ray's second autoscaler says what it cannot do. `ray up`
starts it by default, and the files for KubeRay ask for it.
"""

from typing import Any

import ray
from ray._raylet import GcsClient  # type: ignore[attr-defined]  # Ray has no stubs for it.
from ray.autoscaler.v2.utils import is_autoscaler_v2
from ray.core.generated import autoscaler_pb2
from ray.exceptions import RayError

from cluster.nodes.resources import Growth, Resources

HEAD_S = 5
"""The seconds in which the cluster's head must answer."""


def growth_of(local: bool) -> Growth:
    """Returns how the cluster that this process is connected to gets more nodes.

    local  True if this process has started it for itself
    """
    if local:
        return "never"
    return "on demand" if is_autoscaler_v2(fetch_from_server=True) else "by hand"


def is_refused(needs: Resources) -> bool:
    """True if the autoscaler has said in its last round that it can start no node for a worker
    which waits for room. False if it has not said so, or does not answer.

    This may pass: as long as old nodes are going, there may be no new ones in their place.
    """
    head = GcsClient(ray.get_runtime_context().gcs_address)
    try:
        answer = head.get_cluster_status(timeout_s=HEAD_S)
    except (RayError, RuntimeError, TimeoutError):
        return False
    reply: Any = autoscaler_pb2.GetClusterStatusReply  # type: ignore[attr-defined]  # as above
    refused = reply.FromString(answer).autoscaling_state.infeasible_resource_requests
    wanted = {name: n for name, n in (("CPU", needs.cpus), ("GPU", needs.gpus)) if n}
    return any(dict(request.resources_bundle) == wanted for request in refused)
