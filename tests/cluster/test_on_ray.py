"""Tests of the dispatcher that need a real Ray: workers that are killed, refused resources.

The data are a few hundred made-up digits. `test_dispatch` tests the loop itself, on other pools.
"""

import json
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

from cluster.driver.events import Failed, Finished, Joined, Running, Suspended, WorkerInfo
from cluster.driver.pools.in_process import InProcessPool
from cluster.nodes.resources import Resources, ray_environment
from cluster.sweeps.plan import Plan
from cluster.sweeps.stored import store_plan
from pcworker.errors import InputError
from pcworker.store.local import LocalStore
from pcworker.store.store import Store

ONE_WORKER = Resources(workers=1, cpus=0.25, gpus=0, device="cpu")
"""One worker takes a quarter of a core, so that it need not wait for workers that are ending."""


@pytest.fixture(scope="module")
def on_ray() -> Iterator[ModuleType]:
    """The module `cluster.driver.pools.on_ray`, connected to a Ray of its own. It has a GPU as far
    as Ray knows."""
    ray_environment(None)  # it must be called before ray is imported
    os.environ["RAY_OVERRIDE_RESOURCES"] = json.dumps({"GPU": 1})
    from cluster.driver.pools import on_ray
    from cluster.nodes import connect

    with connect.connected(None) as cluster:
        assert cluster.where.startswith("a local Ray on this machine: 1 node,")
        del os.environ["RAY_OVERRIDE_RESOURCES"]
        yield on_ray


@pytest.mark.faults
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


NETWORKS = ("784-16-10", "784-20-10", "784-24-10")


def digests(store: Path, plan: Plan) -> list[str]:
    return [commit_of(store, plan, shard)["result_digest"] for shard in plan.shards]


def digests_of_this_process(folder: Path, plan: Plan) -> list[str]:
    """What the shards of a plan must give: the oracle."""
    store_plan(LocalStore(folder), plan, {})
    pool = InProcessPool(work(LocalStore(folder), plan.name), made_up_digits())
    assert dispatched(pool, plan)[0] == 0
    return digests(folder, plan)


@pytest.mark.faults
def test_a_worker_trains_several_shards_at_once_and_each_outlives_its_death(
    on_ray: ModuleType, tmp_path: Path
) -> None:
    plan = small_plan(*NETWORKS, epochs=30)
    shards = {shard.shard_id for shard in plan.shards}
    store, pids = LocalStore(tmp_path / "killed"), list[int]()

    def kill(event: Any) -> None:
        at_work = event.shards.values() if isinstance(event, Running) else ()
        if len(at_work) == 3 and all(at.share > 0.1 for at in at_work) and not pids:
            [worker] = event.workers
            pids.append(worker.pid)
            os.kill(worker.pid, signal.SIGKILL)

    store_plan(store, plan, {})
    pool = on_ray.RayPool(work(store, plan.name, places=3), made_up_digits(), ONE_WORKER)
    quarantined, events = dispatched(pool, plan, on=kill)
    assert quarantined == 0
    first, second = of(Joined, events)
    assert (first.worker.pid, first.worker.places) == (pids[0], 3)
    failed = of(Failed, events)
    assert {(event.kind, event.worker) for event in failed} == {("lost", first.worker)}
    assert sorted(event.shard.shard_id for event in failed) == sorted(shards)  # each once
    finished = of(Finished, events)
    assert {event.worker for event in finished} == {second.worker}
    assert sorted(event.shard.shard_id for event in finished) == sorted(shards)
    assert all(event.resumed_from for event in finished)  # each from its own checkpoint
    assert digests(tmp_path / "killed", plan) == digests_of_this_process(tmp_path / "alone", plan)


@pytest.mark.faults
def test_a_halted_worker_gives_up_all_its_shards_and_another_one_goes_on_with_each(
    on_ray: ModuleType, tmp_path: Path
) -> None:
    plan, store = small_plan(*NETWORKS[:2], epochs=60), LocalStore(tmp_path / "halted")
    store_plan(store, plan, {})
    pool = on_ray.RayPool(work(store, plan.name, places=2), made_up_digits(), ONE_WORKER)
    asked: list[WorkerInfo] = []

    def halt(event: Any) -> None:
        at_work = event.shards.values() if isinstance(event, Running) else ()
        if len(at_work) == 2 and all(at.share > 0 for at in at_work) and not asked:
            asked.extend(event.workers)
            pool.halt(asked)
            assert pool.vacancies == []

    quarantined, events = dispatched(pool, plan, on=halt)
    assert (quarantined, of(Failed, events)) == (0, [])
    first, second = of(Joined, events)
    suspended = {event.shard: event for event in of(Suspended, events)}
    assert suspended.keys() == set(plan.shards)
    assert {event.worker for event in suspended.values()} == {first.worker} == set(asked)
    for finished in of(Finished, events):
        assert finished.worker == second.worker
        assert finished.resumed_from == suspended[finished.shard].reached > 0
    assert digests(tmp_path / "halted", plan) == digests_of_this_process(tmp_path / "alone", plan)


def breaks_once(folder: Path, network: str, error: str) -> Any:
    """For `Work`: the first attempt at a network fails as soon as another shard is at work beside
    it. That one goes on until the file `go` is there.

    Everything is inside, so that it travels by value: the workers do not have this module.
    """

    def make(data: Any, device: Any) -> Any:
        import threading
        import time
        from typing import Any

        import torch

        from pcworker.training.engine import Engine

        def wait_for(name: str) -> None:
            deadline, pause = time.monotonic() + 240, threading.Event()
            while not (folder / name).exists():
                assert time.monotonic() < deadline
                pause.wait(0.05)

        class Breaks(Engine):
            def run(self, trials: Any, **options: Any) -> Any:
                breaks = trials[0].configuration.network == network
                if breaks and not (folder / "broken").exists():
                    wait_for("beside")
                    (folder / "broken").touch()
                    raise {"cuda": torch.AcceleratorError, "value": ValueError}[error](
                        "CUDA error: unspecified launch failure" if error == "cuda" else "no"
                    )
                if not breaks:
                    (folder / "beside").touch()
                    wait_for("go")
                return super().run(trials, **options)

        return Breaks(data, device)

    return make


@pytest.mark.faults
@pytest.mark.parametrize(("error", "kind"), [("cuda", "lost"), ("value", "error")])
def test_an_error_of_cuda_ends_a_worker_and_another_error_lets_the_other_shards_end(
    on_ray: ModuleType, tmp_path: Path, error: str, kind: str
) -> None:
    plan, store = small_plan(*NETWORKS[:2]), LocalStore(tmp_path)
    store_plan(store, plan, {})

    def go(event: Any) -> None:
        if isinstance(event, Failed):
            (tmp_path / "go").touch()

    engine = breaks_once(tmp_path, NETWORKS[0], error)
    told = work(store, plan.name, places=2, make_engine=engine)
    pool = on_ray.RayPool(told, made_up_digits(), ONE_WORKER)
    quarantined, events = dispatched(pool, plan, on=go)
    assert quarantined == 0
    first, second = of(Joined, events)
    failed, finished = of(Failed, events), of(Finished, events)
    [broken] = [e for e in failed if e.shard.trials[0].configuration.network == NETWORKS[0]]
    assert (broken.kind, broken.worker, broken.quarantined) == (kind, first.worker, False)
    assert len(failed) == (2 if error == "cuda" else 1)
    workers = {event.shard.trials[0].configuration.network: event.worker for event in finished}
    beside = second if error == "cuda" else first
    assert workers == {NETWORKS[0]: second.worker, NETWORKS[1]: beside.worker}


def test_cpu_workers_beside_gpu_workers_take_the_shortest_shards(
    on_ray: ModuleType, tmp_path: Path
) -> None:
    """The GPU is one that Ray believes in, so its worker computes on the CPU, too."""
    plan, store = small_plan(*NETWORKS), LocalStore(tmp_path / "mixed")
    store_plan(store, plan, {})
    mixed = Resources(workers=1, cpus=0.25, gpus=1, device="cpu", cpu_workers=1)
    pool = on_ray.RayPool(work(store, plan.name, places=2), made_up_digits(), mixed)
    quarantined, events = dispatched(pool, plan)
    assert quarantined == 0
    joined = {event.worker.places: event.worker for event in of(Joined, events)}
    assert sorted(joined) == [1, 2]
    workers = {event.shard: event.worker for event in of(Finished, events)}
    assert [workers[s] for s in plan.shards] == [joined[2], joined[2], joined[1]]
    assert digests(tmp_path / "mixed", plan) == digests_of_this_process(tmp_path / "alone", plan)


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
    assert re.match(r"10,000 workers .* cannot fit: the cluster has \d+", said)


def test_a_gpu_that_the_cluster_does_not_have_is_refused(
    on_ray: ModuleType, tmp_path: Path
) -> None:
    many = Resources(workers=None, cpus=0.25, gpus=1000, device="cuda")
    assert "1,000 GPUs cannot fit" in refusal(on_ray, many, LocalStore(tmp_path))


def test_a_worker_that_does_not_see_the_drivers_store_says_so_before_any_training(
    on_ray: ModuleType, tmp_path: Path
) -> None:
    said = refusal(on_ray, ONE_WORKER, LocalStore(tmp_path))  # this store has no plan
    assert said.startswith(f"a worker cannot start: on {socket.gethostname()}: store ")
    assert "holds no plan of sweep a: it is not the store that the driver sees" in said


REFUSED = [
    ("--workers 10000", "10,000 workers of 1 CPU core cannot fit", "lower --workers"),
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
