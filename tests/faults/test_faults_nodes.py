"""A sweep as on machines of a cloud: submitted with `ray job submit`, results in an object store,
one node lost while it is at work and another one joining.

The cluster is on this machine, the store is SeaweedFS; the oracle is the undisturbed sweep by one
worker, without a cluster, in a local directory.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults import (
    NETWORKS,
    ROOT,
    Job,
    assert_nothing_lost,
    assert_trained_once,
    commits,
    declared,
    failures,
    unfinished,
)
from ray_clusters import RayCluster, ray_cluster
from seaweed import Seaweed

from pcworker.store.local import LocalStore
from pcworker.store.s3 import S3Store

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("ray")]


@pytest.fixture(scope="module")
def cluster(server: Seaweed) -> Iterator[RayCluster]:
    """Two nodes of one CPU each, that know the store's credentials as machines with a role do."""
    with ray_cluster(extra=server.server.environment()) as cluster:
        cluster.add()
        cluster.add()
        cluster.wait()
        yield cluster


def submitted(cluster: RayCluster, store: S3Store, folder: Path) -> Job:
    """The sweep as a job of the cluster; its output is followed."""
    job = ("jobs.mnist_ablation", "--store", store.url, *declared(*NETWORKS))
    job += ("--workers", "2", "--no-preflight")
    out, err = folder / "out", folder / "err"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "jobs.submit", "--", *job],
            cwd=ROOT,
            env=cluster.environment(),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )
    return Job(process, out, err)


def test_a_submitted_sweep_outlives_a_lost_node_and_uses_one_that_joins(
    cluster: RayCluster, server: Seaweed, undisturbed: LocalStore, tmp_path: Path
) -> None:
    store = S3Store(f"s3://{server.server.bucket}/nodes", server.server.endpoint)
    job = submitted(cluster, store, tmp_path)
    job.wait_for(lambda: len(unfinished(store)) == 2, "two shards with checkpoints")
    cluster.kill(cluster.nodes[0])
    before = commits(store)
    cluster.add()
    done = job.end()
    assert done.code == 0, done.stdout + done.stderr
    lost = {row["shard_id"] for row in failures(store)}
    assert {row["kind"] for row in failures(store)} == {"lost"}
    again = [event for event in done.events("committed") if "resumed_from" in event]
    assert {event["shard"] for event in again} <= lost  # from the lost node's checkpoint
    # one on the node that joined, unless the rest was done before it was there
    assert len(done.events("worker")) in (2, 3)
    assert_trained_once(store)
    assert_nothing_lost(store, before, undisturbed)
