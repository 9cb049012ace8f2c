"""The dispatcher on a real Ray, when workers die, shards fail and two drivers do the same work.

The data are a few hundred made-up digits, so that a shard takes moments where it may.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from made_up import made_up_digits, work

from cluster.driver.events import Failed, Finished, Joined, Running, WorkerInfo
from cluster.nodes.resources import Resources, ray_environment
from cluster.sweeps.plan import Plan, Shard, make_plan, store_plan
from cluster.sweeps.sweep import Cell, declare
from jobs.mnist_ablation.experiment import ABLATION
from jobs.mnist_ablation.sweep import mnist_ablation
from pcworker.data.mnist import Digits
from pcworker.errors import InputError
from pcworker.store.local import LocalStore
from pcworker.store.store import Store
from pcworker.trials.configuration import configuration

pytestmark = pytest.mark.xdist_group("ray")

ROOT = Path(__file__).resolve().parents[2]
ONE_WORKER = Resources(workers=1, cpus=0.25, gpus=0, device="cpu")
"""A quarter of a core, so that workers that are just ending never stand in the way."""
RULES = ("BP", "IL", "Z-IL", "Fa-Z-IL")


@pytest.fixture(scope="module")
def dispatch() -> Iterator[ModuleType]:
    """The module `cluster.driver.dispatch`, connected to a Ray of its own."""
    ray_environment(None)  # before ray is imported
    from cluster.driver import dispatch
    from cluster.nodes import connect

    with connect.connected(None) as cluster:
        assert cluster.where.startswith("a local Ray on this machine: 1 node(s)")
        yield dispatch


def small_plan(*networks: str, epochs: int = 1, name: str = "small") -> Plan:
    """A shard per network, of Z-IL, IL, Fa-Z-IL and BP."""
    sweep = mnist_ablation(
        networks=networks,
        seeds=[1],
        t=[None, 1],
        gamma=[1.0],
        sigma=[0.0],
        rules=RULES,
        epochs=epochs,
    )
    plan = make_plan(ABLATION, sweep, name)
    assert len(plan.shards) == len(networks)
    return plan


def run(
    dispatch: ModuleType,
    plan: Plan,
    store: Path,
    *,
    digits: Digits | None = None,
    done: tuple[str, ...] = (),
    on: Callable[[Any, list[WorkerInfo]], None] = lambda event, workers: None,
) -> tuple[int, list[Any]]:
    """How many shards were quarantined, and every event; `on` hears them as they come."""
    local = LocalStore(store)
    store_plan(local, plan, {})
    dispatcher = dispatch.Dispatcher(work(local, plan.name), digits or made_up_digits(), ONE_WORKER)
    started = dispatcher.start(len(plan.shards) - len(done))
    workers = [event.worker for event in started]
    events: list[Any] = []

    def tell(event: Any) -> None:
        events.append(event)
        on(event, workers)

    return dispatcher.run(plan.shards, done.__contains__, tell), events


def files(store: Path) -> list[str]:
    return sorted(path.name for path in store.rglob("*") if path.is_file())


def commit_path(store: Path, plan: Plan, shard: Shard) -> Path:
    return store / "sweeps" / plan.name / "shards" / shard.shard_id / "commit.json"


def commit(store: Path, plan: Plan, shard: Shard) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(commit_path(store, plan, shard).read_bytes())
    return content


def test_every_shard_is_committed_and_told_of(dispatch: ModuleType, tmp_path: Path) -> None:
    plan = small_plan("784-16-10", "784-32-10")
    quarantined, events = run(dispatch, plan, tmp_path)
    assert quarantined == 0
    finished = [event for event in events if isinstance(event, Finished)]
    assert [event.shard for event in finished] == list(plan.shards)
    assert {event.outcome for event in finished} == {"committed"}
    for shard in plan.shards:
        trials = [trial.trial_id for trial in shard.trials]
        assert sorted(commit(tmp_path, plan, shard)["trial_ids"]) == sorted(trials)
    assert not [event for event in events if isinstance(event, Failed)]


def test_a_worker_says_what_it_is(dispatch: ModuleType, tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    plan = store_plan(store, small_plan("784-16-10"), {})
    dispatcher = dispatch.Dispatcher(work(store, plan.name), made_up_digits(), ONE_WORKER)
    [joined] = dispatcher.start(1)
    assert isinstance(joined, Joined)
    assert joined.worker.hostname == socket.gethostname()
    assert joined.worker.device.startswith("cpu: ")
    assert joined.worker.device.endswith("1 thread(s)")
    assert joined.worker.pid != os.getpid()
    assert files(tmp_path) == ["plan.json"]


def test_where_everything_is_committed_nothing_is_started(
    dispatch: ModuleType, tmp_path: Path
) -> None:
    plan = small_plan("784-16-10", "784-32-10")
    done = tuple(shard.shard_id for shard in plan.shards)
    quarantined, events = run(dispatch, plan, tmp_path, done=done)
    assert quarantined == 0
    finished = [event for event in events if isinstance(event, Finished)]
    assert [event.outcome for event in finished] == ["elsewhere", "elsewhere"]
    assert files(tmp_path) == ["plan.json"]


def test_a_sweep_that_another_driver_has_just_finished_needs_no_worker(
    dispatch: ModuleType, tmp_path: Path
) -> None:
    told = work(LocalStore(tmp_path), "a")
    dispatcher = dispatch.Dispatcher(told, made_up_digits(), ONE_WORKER)
    assert dispatcher.start(0) == []
    assert dispatcher.run([], lambda shard_id: True, lambda event: None) == 0


def test_only_what_has_no_commit_is_run(dispatch: ModuleType, tmp_path: Path) -> None:
    plan = small_plan("784-16-10", "784-32-10")
    first, second = plan.shards
    _, events = run(dispatch, plan, tmp_path, done=(first.shard_id,))
    finished = [event for event in events if isinstance(event, Finished)]
    assert [event.shard for event in finished] == [first, second]
    assert [event.outcome for event in finished] == ["elsewhere", "committed"]
    assert not commit_path(tmp_path, plan, first).exists()


def test_a_killed_worker_is_replaced_and_its_shard_ends_with_the_same_bits(
    dispatch: ModuleType, tmp_path: Path
) -> None:
    plan = small_plan("784-16-10", epochs=150)  # some seconds
    [shard] = plan.shards
    shares: list[float] = []

    def kill(event: Any, workers: list[WorkerInfo]) -> None:
        at = event.shards.get(shard.shard_id) if isinstance(event, Running) else None
        if at and at.share and not shares:
            shares.append(at.share)
            os.kill(workers[0].pid, signal.SIGKILL)

    quarantined, events = run(dispatch, plan, tmp_path / "killed", on=kill)
    assert quarantined == 0
    assert 0 < shares[0] < 1
    failed, finished = (event for event in events if isinstance(event, Failed | Finished))
    assert any(isinstance(event, Joined) for event in events)  # the one in its place
    assert (failed.kind, failed.quarantined) == ("lost", False)
    assert failed.error
    assert finished.outcome == "committed"
    survivor = commit(tmp_path / "killed", plan, shard)
    assert survivor["attempt_id"] != failed.attempt_id

    run(dispatch, plan, tmp_path / "undisturbed")
    undisturbed = commit(tmp_path / "undisturbed", plan, shard)
    assert survivor["result_digest"] == undisturbed["result_digest"]


def test_a_shard_that_always_fails_is_quarantined_and_the_others_are_done(
    dispatch: ModuleType, tmp_path: Path
) -> None:
    cells = [
        Cell("rule", configuration(network=network, rule="Z-IL"), 1.0)
        for network in ("784-16-10", "100-16-10")
    ]
    plan = make_plan(ABLATION, declare(cells, seeds=[1]), "poisoned")
    [poisoned] = (s for s in plan.shards if s.trials[0].configuration.network == "784-16-10")
    [sound] = (s for s in plan.shards if s is not poisoned)
    quarantined, events = run(dispatch, plan, tmp_path, digits=made_up_digits(pixels=100))
    assert quarantined == 1
    failed = [event for event in events if isinstance(event, Failed)]
    assert {event.shard for event in failed} == {poisoned}
    assert [event.kind for event in failed] == ["error"] * 3
    assert [event.quarantined for event in failed] == [False, False, True]
    assert len({event.attempt_id for event in failed}) == 3
    for event in failed:
        assert re.match(r"(Runtime|Value)Error: .*784", event.error)
        assert "\n" not in event.error
        assert "pcworker/actor.py" in event.traceback
    assert not commit_path(tmp_path, plan, poisoned).exists()
    assert commit_path(tmp_path, plan, sound).exists()


def test_after_a_quarantine_another_plan_runs(dispatch: ModuleType, tmp_path: Path) -> None:
    plan = small_plan("784-16-10")
    assert run(dispatch, plan, tmp_path, digits=made_up_digits(pixels=100))[0] == 1
    quarantined, events = run(dispatch, plan, tmp_path)  # the next submission tries it anew
    assert quarantined == 0
    assert commit_path(tmp_path, plan, plan.shards[0]).exists()
    assert not [event for event in events if isinstance(event, Failed)]


def test_who_loses_the_race_for_a_commit_finds_the_same_results_there(
    dispatch: ModuleType, tmp_path: Path
) -> None:
    plan = small_plan("784-16-10", "784-32-10")
    run(dispatch, plan, tmp_path)
    before = {shard: commit_path(tmp_path, plan, shard).read_bytes() for shard in plan.shards}
    quarantined, events = run(dispatch, plan, tmp_path)  # as if it had started at the same time
    assert quarantined == 0
    finished = [event for event in events if isinstance(event, Finished)]
    assert [event.outcome for event in finished] == ["lost", "lost"]
    for shard, content in before.items():
        assert commit_path(tmp_path, plan, shard).read_bytes() == content


def refusal(dispatch: ModuleType, resources: Resources, store: Store) -> str:
    with pytest.raises(InputError) as said:
        dispatch.Dispatcher(work(store, "a"), made_up_digits(), resources).start(1)
    assert "\n" not in str(said.value)
    return str(said.value)


def test_more_workers_than_fit_are_refused_with_what_there_is(
    dispatch: ModuleType, tmp_path: Path
) -> None:
    many = Resources(workers=10_000, cpus=1, gpus=0, device="cpu")
    said = refusal(dispatch, many, LocalStore(tmp_path))
    assert re.match(r"10000 worker\(s\) .* do not fit: the cluster has \d+", said)


def test_a_gpu_that_the_cluster_does_not_have_is_refused(
    dispatch: ModuleType, tmp_path: Path
) -> None:
    many = Resources(workers=None, cpus=0.25, gpus=1000, device="cuda")
    assert "1000 GPU(s) do not fit" in refusal(dispatch, many, LocalStore(tmp_path))


def test_a_worker_that_cannot_write_to_the_store_says_so_before_any_training(
    dispatch: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    said = refusal(dispatch, ONE_WORKER, LocalStore(tmp_path / "file" / "store"))
    assert said.startswith(f"a worker cannot start: on {socket.gethostname()}: store ")
    assert "Not a directory" in said


def test_a_worker_that_does_not_see_the_drivers_store_says_so(
    dispatch: ModuleType, tmp_path: Path
) -> None:
    said = refusal(dispatch, ONE_WORKER, LocalStore(tmp_path))  # without the plan
    assert "holds no plan of sweep a: it is not the store that the driver sees" in said


REFUSED = [
    ("--workers 10000", "10000 worker(s) of 1 CPU core(s) do not fit", "lower --workers"),
    ("--address 127.0.0.1:1", "127.0.0.1:1 cannot be reached", "check --address"),
    ("--address nowhere", "'nowhere'", "HOST:PORT"),
]


@pytest.mark.parametrize(("options", "problem", "remedy"), REFUSED, ids=[r[0] for r in REFUSED])
def test_what_the_cluster_cannot_give_is_one_line_and_leaves_no_plan(
    tmp_path: Path, options: str, problem: str, remedy: str
) -> None:
    cell = ("--networks", "784-16-10", "--t", "l", "--gamma", "1", "--sigma", "0")
    command = [sys.executable, "-m", "jobs.mnist_ablation", "--store", str(tmp_path), *cell]
    done = subprocess.run(
        [*command, *options.split()],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert problem in done.stderr
    assert remedy in done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
