"""A Ray cluster whose nodes come and go by Ray's autoscaler, on this machine.

The provider of nodes is the one of Ray's own `ray.cluster_utils.AutoscalingCluster`. That class is
not used itself: it begins with `ray stop --force`, which would end every other Ray on the machine,
and it reads a file that Ray's wheel lacks. The nodes are children of the autoscaler, which runs on
the head, so that they bear the head's mark and are killed with it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray_clusters import HEAD, RayCluster

HEAD_ID, HEAD_TYPE = "f" * 51 + "00000", "ray.head.default"
"""The provider knows the head under this id, and its type under this name."""
IDLE_S = 2.0
"""The autoscaler takes a node away that had nothing to do for so long."""

NOTHING_IS_DONE = (
    *("setup_commands", "head_setup_commands", "worker_setup_commands", "initialization_commands"),
    *("head_start_ray_commands", "worker_start_ray_commands"),
    *("cluster_synced_files", "rsync_exclude", "rsync_filter"),
)
"""Lists of a cluster's file that are empty here."""


class AutoscalingRayCluster(RayCluster):
    """A head without CPUs, and at most `most` nodes of one CPU each."""

    most = 2

    def __init__(self, folder: Path, extra: Mapping[str, str]) -> None:
        super().__init__(folder, extra)
        self._file = folder / "autoscaling.json"

    def start(self) -> None:
        """Starts the head, with the autoscaler."""
        self._file.write_text(json.dumps(self._configuration()))
        self._start_head(
            *("--autoscaling-config", str(self._file)),
            extra={
                "RAY_FAKE_CLUSTER": "1",
                "RAY_enable_autoscaler_v2": "1",  # as `ray up` and KubeRay do
                "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
                "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            },
        )

    def alive(self) -> int:
        """The number of living nodes, without the head."""
        nodes = self.ask("/nodes?view=summary")["data"]["summary"]
        return sum(node["raylet"]["state"] == "ALIVE" and node["ip"] != HEAD for node in nodes)

    def _configuration(self) -> dict[str, Any]:
        node = {"CPU": 1, "object_store_memory": 150 * 2**20}
        provider = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
        return {
            "cluster_name": "fake",
            "max_workers": self.most,
            "idle_timeout_minutes": IDLE_S / 60,
            "upscaling_speed": 100.0,
            "provider": {
                "type": "external",
                "module": provider,
                "launch_multiple": True,
                "head_node_id": HEAD_ID,
                "gcs_address": self.address,
                "disable_node_updaters": True,
            },
            "available_node_types": {
                HEAD_TYPE: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
                "one": {"resources": node, "node_config": {}, "max_workers": self.most},
            },
            "head_node_type": HEAD_TYPE,
            # Ray asks for these, although nothing is done on such nodes.
            **{name: {} for name in ("auth", "file_mounts")},
            **{name: [] for name in NOTHING_IS_DONE},
            "file_mounts_sync_continuously": False,
        }
