"""Tests of the dispatcher that need a real Ray: workers that are killed, refused resources.

The data are a few hundred made-up digits. `test_dispatch` tests the loop itself, on other pools.
"""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from dispatching import commit_of, dispatched, files, of, small_plan
from made_up import made_up_digits, work
from running import PATIENCE_S, ROOT

from cluster.driver.events import Failed, Finished, Joined, Running
from cluster.driver.pools.in_process import InProcessPool
from cluster.nodes.resources import Resources, ray_environment
from cluster.sweeps.plan import store_plan
from pcworker.errors import InputError
from pcworker.store.local import LocalStore
from pcworker.store.store import Store

ONE_WORKER = Resources(workers=1, cpus=0.25, gpus=0, device="cpu")
"""One worker takes a quarter of a core, so that it need not wait for workers that are ending."""


@pytest.fixture(scope="module")
def on_ray() -> Iterator[ModuleType]:
    """The module `cluster.driver.pools.on_ray`, connected to a Ray of its own."""
    ray_environment(None)  # it must be called before ray is imported
    from cluster.driver.pools import on_ray
    from cluster.nodes import connect

    with connect.connected(None) as cluster:
        assert cluster.where.startswith("a local Ray on this machine: 1 node(s)")
        yield on_ray


def test_a_killed_worker_is_replaced_and_its_shard_ends_with_the_bits_of_this_process(
    on_ray: ModuleType, tmp_path: Path
) -> None:
    plan = small_plan("784-16-10", epochs=100)  # this takes some seconds
    [shard] = plan.shards
    killed, alone = LocalStore(tmp_path / "killed"), LocalStore(tmp_path / "alone")
    shares: list[float] = []
    pids: list[int] = []

    def kill(event: Any) -> None:
        pids.extend(event.worker.pid for event in of(Joined, [event]))
        at = event.shards.get(shard.shard_id) if isinstance(event, Running) else None
        if at and at.share and not shares:
            shares.append(at.share)
            os.kill(pids[0], signal.SIGKILL)

    store_plan(killed, plan, {})
    pool = on_ray.RayPool(work(killed, plan.name), made_up_digits(), ONE_WORKER)
    quarantined, events = dispatched(pool, plan, on=kill)
    assert quarantined == 0
    assert 0 < shares[0] < 1
    first, second = of(Joined, events)  # the second one replaces the first
    assert os.getpid() not in (first.worker.pid, second.worker.pid)
    assert first.worker.hostname == socket.gethostname()
    assert first.worker.device.startswith("cpu: ")
    assert first.worker.device.endswith("1 thread(s)")
    [failed], [finished] = of(Failed, events), of(Finished, events)
    assert (failed.kind, failed.quarantined, failed.worker) == ("lost", False, first.worker)
    assert failed.error
    assert (finished.outcome, finished.worker) == ("committed", second.worker)
    survivor = commit_of(tmp_path / "killed", plan, shard)
    assert survivor["attempt_id"] != failed.attempt_id

    store_plan(alone, plan, {})
    assert dispatched(InProcessPool(work(alone, plan.name), made_up_digits()), plan)[0] == 0
    undisturbed = commit_of(tmp_path / "alone", plan, shard)
    assert survivor["result_digest"] == undisturbed["result_digest"]


def test_without_a_shard_no_worker_is_started(on_ray: ModuleType, tmp_path: Path) -> None:
    pool = on_ray.RayPool(work(LocalStore(tmp_path), "a"), made_up_digits(), ONE_WORKER)
    assert pool.start(0) == []
    assert pool.workers == []
    assert files(tmp_path) == []


def refusal(on_ray: ModuleType, resources: Resources, store: Store) -> str:
    with pytest.raises(InputError) as said:
        on_ray.RayPool(work(store, "a"), made_up_digits(), resources).start(1)
    assert "\n" not in str(said.value)
    return str(said.value)


def test_more_workers_than_fit_are_refused_with_what_there_is(
    on_ray: ModuleType, tmp_path: Path
) -> None:
    many = Resources(workers=10_000, cpus=1, gpus=0, device="cpu")
    said = refusal(on_ray, many, LocalStore(tmp_path))
    assert re.match(r"10000 worker\(s\) .* do not fit: the cluster has \d+", said)


def test_a_gpu_that_the_cluster_does_not_have_is_refused(
    on_ray: ModuleType, tmp_path: Path
) -> None:
    many = Resources(workers=None, cpus=0.25, gpus=1000, device="cuda")
    assert "1000 GPU(s) do not fit" in refusal(on_ray, many, LocalStore(tmp_path))


def test_a_worker_that_does_not_see_the_drivers_store_says_so_before_any_training(
    on_ray: ModuleType, tmp_path: Path
) -> None:
    said = refusal(on_ray, ONE_WORKER, LocalStore(tmp_path))  # this store has no plan
    assert said.startswith(f"a worker cannot start: on {socket.gethostname()}: store ")
    assert "holds no plan of sweep a: it is not the store that the driver sees" in said


REFUSED = [
    ("--workers 10000", "10000 worker(s) of 1 CPU core(s) do not fit", "lower --workers"),
    ("--address 127.0.0.1:1", "127.0.0.1:1 cannot be reached", "check --address"),
    (f"--address 127.0.0.1:{'9' * 5000}", "Ray address '127.0.0.1:999", "give auto, or HOST:PORT"),
    ("--address nowhere", "'nowhere'", "HOST:PORT"),
]


@pytest.mark.parametrize(
    ("options", "problem", "remedy"), REFUSED, ids=[r[0][:40] for r in REFUSED]
)
def test_what_the_cluster_cannot_give_is_one_line_and_leaves_no_plan(
    tmp_path: Path, options: str, problem: str, remedy: str
) -> None:
    cell = ("--networks", "784-16-10", "--t", "l", "--gamma", "1", "--sigma", "0")
    command = [sys.executable, "-m", "jobs.mnist_ablation", "--store", str(tmp_path), *cell]
    done = subprocess.run(
        [*command, *options.split()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert problem in done.stderr
    assert remedy in done.stderr
    assert files(tmp_path) == []
