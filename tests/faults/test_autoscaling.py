"""Sweeps on a cluster whose nodes Ray's autoscaler starts and takes away: from none to none.

The oracle of every table is the same sweep without Ray and without any fault.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import faults
import pytest
from autoscaling import AutoscalingRayCluster
from ray_clusters import ray_cluster, wait_until

from pcworker.store.local import LocalStore

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("ray")]


@pytest.fixture(scope="module")
def running() -> Iterator[AutoscalingRayCluster]:
    with ray_cluster(AutoscalingRayCluster) as cluster:
        yield cluster


@pytest.fixture
def cluster(running: AutoscalingRayCluster) -> AutoscalingRayCluster:
    """The head alone, whatever the test before has done."""
    assert wait_until(lambda: running.alive() == 0)
    return running


def arguments(cluster: AutoscalingRayCluster, store: LocalStore, *options: str) -> tuple[str, ...]:
    return faults.arguments(store, "--address", cluster.address, *options)


def pids(job: faults.Job) -> list[int]:
    """The processes of the workers, in the order in which they joined."""
    return [int(pid) for pid in re.findall(r" event=worker .* pid=(\d+)", job.stdout)]


def demands(cluster: AutoscalingRayCluster) -> str:
    """What is asked of the autoscaler, as `ray status` prints it."""
    command = (sys.executable, "-m", "ray.scripts.scripts", "status", "--address", cluster.address)
    done = subprocess.run(
        command, env=cluster.environment(), capture_output=True, text=True, check=True
    )
    return done.stdout.split("Pending Demands:")[1]


def test_nodes_come_for_a_sweep_and_each_goes_when_no_shard_is_left_for_it(
    cluster: AutoscalingRayCluster, undisturbed: LocalStore, tmp_path: Path
) -> None:
    """The first worker is stopped, so that it holds the last shard for as long as is needed."""
    store = LocalStore(tmp_path)
    command = arguments(cluster, store, "--workers", "2")
    with faults.running(*command, extra=cluster.environment()) as job:
        job.wait_for(lambda: pids(job), "a worker")
        first = pids(job)[0]
        os.kill(first, signal.SIGSTOP)
        job.wait_for(lambda: len(faults.commits(store)) == faults.SHARDS - 1, "all but one")
        job.wait_for(lambda: cluster.alive() == 1, "the other worker's node is gone")
        os.kill(first, signal.SIGCONT)
        done = job.end()
    assert done.code == 0, done.stdout + done.stderr
    [waiting] = done.events("waiting")
    assert (
        "waiting for 2 more workers of 1 CPU core: the cluster has room for 0 now; the "
        in (waiting["message"])
    )
    assert len(done.events("worker")) == 2
    assert done.events("failed") == []
    faults.assert_trained_once(store)
    faults.assert_nothing_lost(store, {}, undisturbed)
    assert wait_until(lambda: cluster.alive() == 0)


THREE = {"CPU": 3.0}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_what_a_driver_has_asked_for_ends_with_it(
    cluster: AutoscalingRayCluster, tmp_path: Path, number: signal.Signals
) -> None:
    command = arguments(cluster, LocalStore(tmp_path), "--workers", "2", "--cpus-per-worker", "3")
    with faults.running(*command, extra=cluster.environment()) as job:
        job.says("event=waiting")
        # The autoscaler looks at what is pending now and then.
        job.wait_for(lambda: str(THREE) in demands(cluster), "the workers are asked for")
        job.process.send_signal(number)
        assert job.end().code == (130 if number is signal.SIGINT else -number)
        assert wait_until(lambda: str(THREE) not in demands(cluster), every=1.0)


@pytest.mark.long
def test_a_worker_for_which_no_node_can_be_started_ends_the_sweep_with_advice(
    cluster: AutoscalingRayCluster, tmp_path: Path
) -> None:
    command = arguments(cluster, LocalStore(tmp_path), "--cpus-per-worker", "2")
    refused = faults.finished(*command, extra=cluster.environment())
    refused.says_one_line(
        "1 worker of 2 CPU cores cannot fit", "autoscaler can start no node", "allow the"
    )
