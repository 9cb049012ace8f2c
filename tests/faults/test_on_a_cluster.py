"""A sweep on a real Ray cluster: jobs, tokens, what is shipped, and nodes that go and come.

The cluster is on this machine: a head without CPUs and two nodes of one CPU each, in token mode,
that know the credentials of a store, as machines of a cloud with a role do. What is submitted is a
copy of the checkout, with things beside the sources that must stay here. The oracle of every table
is the same sweep by the same sources without Ray; that of every digest is the engine in this
process. The preflight, which starts processes on every node, is left out where it is not the point.
"""

import importlib
import json
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import faults
import pytest
import torch
from dispatching import Known, dispatcher
from made_up import made_up_digits
from preflight_lines import says_well
from ray_clusters import PATIENCE_S, Node, RayCluster, clean_environment, ray_cluster, wait_until
from seaweed import Seaweed
from tables import equal_tables, read_tables

from cluster.driver.events import Failed, Finished, Joined, Running, Suspended, Trouble
from cluster.nodes.resources import Resources
from cluster.nodes.shipping import shipped
from cluster.sweeps.plan import Plan, make_plan
from cluster.sweeps.stored import store_plan
from jobs.mnist_ablation.experiment import ABLATION, ablation_engine
from jobs.mnist_ablation.sweep import mnist_ablation
from pcworker.machine.provenance import code_sha256
from pcworker.store.local import LocalStore
from pcworker.store.s3.s3 import S3Store
from pcworker.store.tables import SHARD_TABLES, result_digest
from pcworker.training.engine import Engine
from pcworker.worker import Work

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("ray")]

ROOT = Path(__file__).resolve().parents[2]
NETWORKS = ("784-16-10", "784-32-10", "784-16-16-10", "784-32-32-10")
CELL = ("--t", "l", "--gamma", "1", "--sigma", "0", "--batch-size", "50")
SWEEP = ("--networks", ",".join(NETWORKS), *CELL, "--sweep", "small")
ONE_SHARD = ("--networks", NETWORKS[0], *CELL, "--sweep", "one")
RAY_SUBMIT = (sys.executable, "-m", "ray.scripts.scripts", "job", "submit")
BOTH = Resources(workers=2, cpus=1, gpus=0, device="cpu")


@pytest.fixture(scope="module")
def running(server: Seaweed) -> Iterator[RayCluster]:
    with ray_cluster(extra=server.server.environment()) as cluster:
        yield cluster


@pytest.fixture
def cluster(running: RayCluster) -> Iterator[RayCluster]:
    """Two nodes of one CPU each, whatever the test before has done."""
    with_two_nodes(running)
    yield running
    with_two_nodes(running)


def with_two_nodes(cluster: RayCluster) -> None:
    for node in cluster.nodes[2:]:
        cluster.kill(node)
    while len(cluster.nodes) < 2:
        cluster.add()
    cluster.wait()


OWN = "# so that the copy's code_sha256 is its own\n"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, and beside them what must not be shipped."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("pcworker", "cluster", "jobs"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, copy / name, ignore=ignore)
    shutil.copy(ROOT / ".rayignore", copy)
    with (copy / "pcworker" / "errors.py").open("a") as source:
        source.write(OWN)
    beside = (".env", "notes.txt", "results/a.parquet", ".venv/lib/x.py", "tests/test_x.py")
    for name in (*beside, "jobs/__pycache__/submit.cpython-311.pyc"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("stays here")
    return copy


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def said(self) -> str:
        return self.stdout + self.stderr

    def refused(self, *parts: str) -> None:
        """Fails unless it ended with exit code 2 and one line that holds all of these."""
        assert self.code == 2, self.said
        assert self.stderr.count("\n") == 1, self.stderr
        assert all(part in self.stderr for part in parts), self.stderr
        assert "Traceback" not in self.said


def run(*command: str, cwd: Path, env: dict[str, str]) -> Done:
    done = subprocess.run(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=PATIENCE_S,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


def job(store: Path, *options: str) -> list[str]:
    return ["jobs.mnist_ablation", "--store", str(store), *options]


def ray_submit(
    cluster: RayCluster, checkout: Path, store: Path, *options: str, **environment: str
) -> Done:
    """`ray job submit`, as the README has it."""
    command = ("--working-dir", ".", "--", "python", "-m", *job(store, *options))
    return run(*RAY_SUBMIT, *command, cwd=checkout, env=cluster.environment() | environment)


def submit(
    cluster: RayCluster, checkout: Path, *arguments: str, without: tuple[str, ...] = ()
) -> Done:
    """`python -m jobs.submit`."""
    env = {name: value for name, value in cluster.environment().items() if name not in without}
    return run(sys.executable, "-m", "jobs.submit", *arguments, cwd=checkout, env=env)


def driver(cluster: RayCluster, checkout: Path, store: Path, *options: str, **env: str) -> Done:
    """The sweep by a driver on this machine, on the cluster."""
    command = ("-m", *job(store, *options), "--address", cluster.address)
    return run(sys.executable, *command, cwd=checkout, env=cluster.environment() | env)


def jobs_of(cluster: RayCluster) -> dict[str, str]:
    """The status of every job that the cluster has ever had, by its submission id."""
    listed = cluster.ask("/api/jobs/")
    return {one["submission_id"]: one["status"] for one in listed if one["submission_id"]}


def asked_with(cluster: RayCluster, token: str | None) -> int:
    """The HTTP status that the dashboard answers to this token."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(f"{cluster.dashboard}/api/jobs/", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def commits(store: Path) -> dict[str, bytes]:
    found = store.glob("sweeps/*/shards/*/commit.json")
    return {path.parent.name: path.read_bytes() for path in found}


def folder(store: Path) -> Path:
    [found] = (store / "sweeps").iterdir()
    return found


def assert_equal_results(store: Path, other: Path) -> None:
    ours, theirs = (read_tables(folder(one) / "tables") for one in (store, other))
    for name, table in ours.items():
        assert equal_tables(table, theirs[name]), f"{name} differs"


@pytest.fixture(scope="module")
def local(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sweep without Ray."""
    store, home = tmp_path_factory.mktemp("local"), tmp_path_factory.mktemp("home")
    alone = (sys.executable, "-m", *job(store, *SWEEP, "--local-debug"))
    done = run(*alone, cwd=checkout, env=clean_environment(home))
    assert done.code == 0, done.said
    return store


@dataclass(frozen=True)
class Submitted:
    """The sweep, submitted as a job that has ended."""

    store: Path
    done: Done


@pytest.fixture(scope="module")
def submitted(
    running: RayCluster, checkout: Path, tmp_path_factory: pytest.TempPathFactory
) -> Submitted:
    with_two_nodes(running)
    store = tmp_path_factory.mktemp("submitted")
    return Submitted(store, ray_submit(running, checkout, store, *SWEEP, "--workers", "2"))


# ---------------------------------------------------------------- jobs and tokens


def test_a_submitted_job_runs_on_both_nodes_and_ends_well(submitted: Submitted) -> None:
    assert submitted.done.code == 0, submitted.done.said
    assert "Running on the Ray cluster at" in submitted.done.stdout
    assert "3 nodes, 2 CPU cores" in submitted.done.stdout
    assert says_well(submitted.done.stdout, "Preflight: 13 checks passed.")
    trials = read_tables(folder(submitted.store) / "tables")["trials"]
    hosts = set(trials["hostname"].to_pylist())
    assert len(hosts) == 2
    assert all(re.fullmatch(r".+/[0-9a-f]{8}", host) for host in hosts)  # two on one host


def test_a_submitted_job_has_the_tables_of_the_sweep_without_a_cluster(
    submitted: Submitted, local: Path
) -> None:
    assert_equal_results(submitted.store, local)


def test_a_submitted_job_runs_what_was_shipped_on_every_node(
    submitted: Submitted, local: Path
) -> None:
    assert sources_of(submitted.store) == sources_of(local)
    assert code_sha256() not in sources_of(local)


def test_a_submitted_timing_job_runs_what_was_shipped_in_the_environment_of_its_workers(
    cluster: RayCluster, checkout: Path, local: Path, tmp_path: Path
) -> None:
    """Its workers start with variables of their own, beside the working directory of the job."""
    job = ("jobs.imagenet_timing", "--store", str(tmp_path), "--networks", "small-conv")
    options = ("--updates", "4", "--cpus-per-worker", "1", "--sweep", "times", "--no-preflight")
    done = submit(cluster, checkout, "--", *job, *options)
    assert done.code == 0, done.said
    assert "BP's, bit for bit" in done.stdout
    assert sources_of(tmp_path) == sources_of(local)


def sources_of(store: Path) -> set[str]:
    return {json.loads(data)["where"]["code_sha256"] for data in commits(store).values()}


def test_what_is_shipped_is_the_list_of_shipping_and_nothing_else(
    running: RayCluster, submitted: Submitted, checkout: Path
) -> None:
    assert submitted.done.code == 0
    wanted = {str(path): size for path, size in shipped(checkout)}
    # where Ray unpacked it, for the job's driver and for its workers
    packages = running.folder.glob("[0-9]*/session_2*/runtime_resources/working_dir_files/_ray*/")
    unpacked = [p for p in packages if (p / "pcworker/errors.py").read_text().endswith(OWN)]
    assert unpacked  # another test of this file submits other sources
    for place in unpacked:
        files = (path for path in place.rglob("*") if path.is_file())
        assert {str(p.relative_to(place)): p.stat().st_size for p in files} == wanted
    assert "jobs/mnist_ablation/__main__.py" in wanted
    assert sum(wanted.values()) < 2_000_000


def test_our_submission_says_what_it_ships_and_a_finished_sweep_is_not_run_again(
    cluster: RayCluster, checkout: Path, submitted: Submitted
) -> None:
    before = commits(submitted.store)
    again = submit(cluster, checkout, "--", *job(submitted.store, *SWEEP, "--workers", "2"))
    assert again.code == 0, again.said
    files = shipped(checkout)
    kilobytes = sum(size for _, size in files) / 1000
    assert f"Shipping {len(files)} files, {kilobytes:,.0f} kB." in again.stdout
    assert f"all {len(NETWORKS)} shards are committed already" in again.stdout
    assert commits(submitted.store) == before


def test_without_a_token_nothing_is_submitted(
    cluster: RayCluster, checkout: Path, tmp_path: Path
) -> None:
    before = jobs_of(cluster)
    refused = ray_submit(cluster, checkout, tmp_path / "store", *SWEEP, RAY_AUTH_MODE="disabled")
    assert refused.code != 0
    assert "no authentication token was found" in refused.said  # Ray's words for a 401
    assert asked_with(cluster, None) == 401
    assert jobs_of(cluster) == before
    assert not (tmp_path / "store").exists()


def test_with_a_wrong_token_nothing_is_submitted(
    cluster: RayCluster, checkout: Path, tmp_path: Path
) -> None:
    before = jobs_of(cluster)
    wrong = {"RAY_AUTH_TOKEN": "0" * 64}
    refused = ray_submit(cluster, checkout, tmp_path / "store", *SWEEP, **wrong)
    assert refused.code != 0
    assert "Invalid authentication token" in refused.said
    assert asked_with(cluster, "0" * 64) == 403
    assert cluster.token.read_text() not in refused.said
    assert jobs_of(cluster) == before
    assert not (tmp_path / "store").exists()


def test_our_submission_without_a_token_says_what_to_do(
    cluster: RayCluster, checkout: Path, tmp_path: Path
) -> None:
    without = ("RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE")
    refused = submit(cluster, checkout, "--", *job(tmp_path / "store", *SWEEP), without=without)
    refused.refused("no token", "~/.ray/auth_token", "RAY_AUTH_TOKEN", "ray get-auth-token")
    assert not (tmp_path / "store").exists()


def test_a_checkout_that_is_too_large_is_refused_with_its_largest_files(
    cluster: RayCluster, checkout: Path, tmp_path: Path
) -> None:
    large = shutil.copytree(checkout, tmp_path / "large")
    for name, mebibytes in (("jobs/weights.bin", 90), ("jobs/data/more.bin", 20)):
        (large / name).parent.mkdir(exist_ok=True)
        with (large / name).open("wb") as file:
            file.truncate(mebibytes * 2**20)  # a hole: nothing is on the disk
    before = jobs_of(cluster)
    refused = submit(cluster, large, "--", *job(tmp_path / "store", *SWEEP))
    refused.refused("jobs/weights.bin (90.0 MiB), jobs/data/more.bin (20.0 MiB)", "move data out")
    assert jobs_of(cluster) == before


def test_a_stopped_job_keeps_what_is_committed_and_the_same_submission_goes_on(
    cluster: RayCluster, checkout: Path, local: Path, tmp_path: Path
) -> None:
    sweep = (*SWEEP, "--workers", "1", "--no-preflight")
    named = ("--no-wait", "--submission-id", "to-be-stopped", "--working-dir", ".", "--")
    command = (*named, "python", "-m", *job(tmp_path, *sweep))
    begun = run(*RAY_SUBMIT, *command, cwd=checkout, env=cluster.environment())
    assert begun.code == 0, begun.said
    assert wait_until(lambda: bool(commits(tmp_path)))
    before = commits(tmp_path)
    stopped = run(
        *RAY_SUBMIT[:-1], "stop", "to-be-stopped", cwd=checkout, env=cluster.environment()
    )
    assert stopped.code == 0, stopped.said
    ended = ("STOPPED", "FAILED", "SUCCEEDED")
    assert wait_until(lambda: jobs_of(cluster)["to-be-stopped"] in ended)
    assert jobs_of(cluster)["to-be-stopped"] == "STOPPED"
    said = cluster.ask("/api/jobs/to-be-stopped/logs")["logs"]
    assert "interrupted: what is committed is kept; the same command goes on" in said
    assert "Traceback" not in said
    after = commits(tmp_path)
    assert before.items() <= after.items()
    assert len(after) < len(NETWORKS)

    finished = ray_submit(cluster, checkout, tmp_path, *sweep)
    assert finished.code == 0, finished.said
    already = re.search(r"(\d+) committed already", finished.stdout)
    assert already
    assert int(already[1]) >= len(after)
    assert after.items() <= commits(tmp_path).items()
    assert_equal_results(tmp_path, local)


def test_workers_whose_environment_cannot_be_set_up_end_the_sweep_with_advice(
    cluster: RayCluster, checkout: Path, tmp_path: Path
) -> None:
    # what Ray tells a job's driver of the job's environment: a package that is nowhere
    config = {"runtime_env": {"working_dir": "gcs://_ray_pkg_0123456789abcdef.zip"}}
    broken = {"RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps(config)}
    ended = driver(cluster, checkout, tmp_path, *ONE_SHARD, **broken)
    ended.refused(
        "runtime environment cannot be set up", "--runtime-env", "--working-dir",
        "_ray_pkg_0123456789abcdef",  # what is wrong with it
    )  # fmt: skip
    assert not commits(tmp_path)


# ---------------------------------------------------------------- nodes and GPUs


def test_a_worker_must_fit_on_one_node(cluster: RayCluster, checkout: Path, tmp_path: Path) -> None:
    two = ("--cpus-per-worker", "2")
    refused = driver(cluster, checkout, tmp_path, *ONE_SHARD, *two)
    refused.refused("1 worker of 2 CPU cores cannot fit", "2 CPU cores", "--cpus-per-worker")
    assert not commits(tmp_path)


HALVES = ("--gpus-per-worker", "0.5", "--cpus-per-worker", "0.5", "--device", "cpu")


def test_the_one_gpu_of_a_mixed_cluster_is_shared_and_never_replaced_by_a_cpu(
    cluster: RayCluster, checkout: Path, local: Path, tmp_path: Path
) -> None:
    """A third node has a GPU as far as Ray knows."""
    cluster.add(cpus=1, gpus=1)
    cluster.wait()

    two = ("--networks", ",".join(NETWORKS[:2]), *CELL, "--sweep", "two", *HALVES)
    two += ("--no-preflight",)
    done = driver(cluster, checkout, tmp_path / "two", *two)
    assert done.code == 0, done.said
    assert "4 nodes, 3 CPU cores, 1 GPU" in done.stdout
    workers = re.findall(r"event=worker worker=(\S+) .*pid=(\d+)", done.stdout)
    assert len(workers) == 2  # as many as fit, by themselves
    assert len({host for host, _ in workers}) == 1
    assert len({pid for _, pid in workers}) == 2
    assert set(digests(tmp_path / "two").values()) < set(digests(local).values())

    two = ("--gpus-per-worker", "2", "--device", "cpu")
    refused = driver(cluster, checkout, tmp_path, *ONE_SHARD, *two)
    refused.refused("1 worker of", "2 GPUs cannot fit", "1 GPU on 4 nodes")

    if not torch.cuda.is_available():  # else the GPU would work
        gpu = ("--sums", "library", "--gpus-per-worker", "1")
        refused = driver(cluster, checkout, tmp_path / "one", *ONE_SHARD, *gpu)
        refused.refused("finds no working CUDA device", "--device cpu")
        assert not commits(tmp_path / "one")


# ---------------------------------------------------------------- nodes that go and come


def test_a_submitted_sweep_outlives_a_lost_node_and_uses_one_that_joins(
    cluster: RayCluster, server: Seaweed, undisturbed: LocalStore, tmp_path: Path
) -> None:
    """As on machines of a cloud: the sweep is submitted, and its results are in an object store."""
    store = S3Store(f"s3://{server.server.bucket}/nodes", server.server.endpoint)
    job = ("jobs.mnist_ablation", "--store", store.url, *faults.SWEEP)
    options = ("--workers", "2", "--no-preflight")
    with faults.running("jobs.submit", "--", *job, *options, extra=cluster.environment()) as driver:
        driver.wait_for(lambda: len(faults.unfinished(store)) == 2, "two shards with checkpoints")
        cluster.kill(cluster.nodes[0])
        before = faults.commits(store)
        cluster.add()
        done = driver.end()
    assert done.code == 0, done.stdout + done.stderr
    lost = {row["shard_id"] for row in faults.failures(store)}
    assert {row["kind"] for row in faults.failures(store)} == {"lost"}
    again = [event for event in done.events("committed") if "resumed_from" in event]
    assert {event["shard"] for event in again} <= lost  # from the lost node's checkpoint
    # one on the node that joined, unless the rest was done before it was there
    assert len(done.events("worker")) in (2, 3)
    faults.assert_trained_once(store)
    faults.assert_nothing_lost(store, before, undisturbed)


@pytest.fixture
def connected(cluster: RayCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module `cluster.driver.pools.on_ray`, connected to the cluster from this process."""
    environment = cluster.environment()
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, environment[name])
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    connect = importlib.import_module("cluster.nodes.connect")
    # Ray keeps the first token that a process uses, and other tests' Rays have other ones
    forget = importlib.import_module("ray._private.authentication_test_utils")
    forget.reset_auth_token_state()
    try:
        with connect.connected(cluster.address) as found:
            assert found.where.startswith(f"the Ray cluster at {cluster.address}: ")
            yield importlib.import_module("cluster.driver.pools.on_ray")
    finally:
        forget.reset_auth_token_state()


def planned(
    store: Path, networks: int, epochs: int, name: str = "small", batch_size: int = 20
) -> Plan:
    """A shard of Z-IL and BP per network, stored."""
    names = [f"784-{16 * width}-10" for width in range(1, networks + 1)]
    sweep = mnist_ablation(
        networks=names, seeds=[1], t=[None], gamma=[1.0], sigma=[0.0], rules=["BP", "Z-IL"],
        epochs=epochs, batch_size=batch_size,
    )  # fmt: skip
    plan = make_plan(ABLATION, sweep, name)
    assert len(plan.shards) == networks
    return store_plan(LocalStore(store), plan, {})


def digests(store: Path) -> dict[str, str]:
    return {shard: json.loads(data)["result_digest"] for shard, data in commits(store).items()}


def digests_of_the_engine(plan: Plan, cpu: torch.device) -> dict[str, str]:
    """What the shards of a plan must give: the oracle."""
    engine = Engine(made_up_digits(), cpu)
    return {shard.shard_id: result_digest(engine.run(shard.trials)) for shard in plan.shards}


def dispatched(
    on_ray: ModuleType,
    plan: Plan,
    store: Path,
    resources: Resources,
    on: Callable[[Any], None] = lambda event: None,
    **work: Any,
) -> tuple[int, list[Any]]:
    """How many shards were quarantined, and every event; `on` hears them as they come."""
    events: list[Any] = []

    def tell(event: Any) -> None:
        events.append(event)
        on(event)

    told = Work(
        sweep=plan.name,
        store=LocalStore(store),
        device="cpu",
        cpus=1,
        tables=SHARD_TABLES,
        **{"make_engine": ablation_engine, **work},
    )
    pool = on_ray.RayPool(told, made_up_digits(), resources)
    for event in pool.start(len(plan.shards)):
        tell(event)
    return len(dispatcher(pool, tell).run(plan.shards, Known()).quarantined), events


def node_ids() -> dict[str, str]:
    """By address: the ids of the nodes that live."""
    ray = importlib.import_module("ray")
    return {node["NodeManagerAddress"]: node["NodeID"] for node in ray.nodes() if node["Alive"]}


def with_checkpoints(store: Path) -> set[str]:
    """The shards of which an attempt has stored a checkpoint that is still there."""
    found = store.glob("sweeps/*/shards/*/attempts/*/checkpoint-*.npz")
    return {path.parents[2].name for path in found}


def waiting_engine(gate: Path) -> Any:
    """For `Work`: an engine that waits after its first checkpoint until the file `gate` is there.

    Everything is inside, so that it travels by value: the workers do not have this module.
    """

    def make(data: Any, device: Any) -> Any:
        import threading
        import time
        from typing import Any

        from pcworker.training.engine import Engine

        class Waiting(Engine):
            def run(self, trials: Any, *, save: Any, **options: Any) -> Any:
                def save_and_wait(checkpoint: Any) -> None:
                    save(checkpoint)
                    deadline, pause = time.monotonic() + 240, threading.Event()
                    while not gate.exists():
                        assert time.monotonic() < deadline
                        pause.wait(0.05)

                return super().run(trials, save=save_and_wait, **options)

        return Waiting(data, device)

    return make


def of(kind: type, events: list[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def test_a_lost_node_costs_time_only_and_a_node_that_joins_gets_work(
    cluster: RayCluster, connected: ModuleType, cpu: torch.device, tmp_path: Path
) -> None:
    """All workers wait after their first checkpoints until the new node has a worker."""
    lost, kept = cluster.nodes
    lost_id = node_ids()[lost.address]
    store, gate = tmp_path / "store", tmp_path / "gate"
    plan = planned(store, networks=5, epochs=3)
    joined: list[Node] = []

    def disturb(event: Any) -> None:
        if lost in cluster.nodes and len(with_checkpoints(store)) == 2:
            cluster.kill(lost)
        if isinstance(event, Failed) and not joined:
            joined.append(cluster.add())
        if isinstance(event, Joined) and joined:
            gate.touch()

    engine = waiting_engine(gate)
    quarantined, events = dispatched(connected, plan, store, BOTH, disturb, make_engine=engine)
    assert quarantined == 0
    [failed] = of(Failed, events)
    assert (failed.kind, failed.worker.node_id, failed.quarantined) == ("lost", lost_id, False)
    finished = of(Finished, events)
    places = {event.worker.node_id for event in finished if event.worker}
    ids = node_ids()
    assert lost_id not in ids.values()
    assert {ids[kept.address], ids[joined[0].address]} <= places
    assert ids[joined[0].address] in {event.worker.node_id for event in of(Joined, events)}
    [again] = [event for event in finished if event.shard == failed.shard]
    assert again.resumed_from > 0  # from the checkpoint of the attempt that was lost
    assert digests(store) == digests_of_the_engine(plan, cpu)


def test_when_all_nodes_are_lost_the_sweep_waits_and_goes_on_by_itself(
    cluster: RayCluster, connected: ModuleType, cpu: torch.device, tmp_path: Path
) -> None:
    store, gate = tmp_path / "store", tmp_path / "gate"
    plan = planned(store, networks=3, epochs=3)

    def disturb(event: Any) -> None:
        if not gate.exists() and len(with_checkpoints(store)) == 2:
            for node in [*cluster.nodes]:
                cluster.kill(node)
            gate.touch()
        starved = isinstance(event, Running) and gate.exists() and not event.workers
        if starved and not cluster.nodes:
            cluster.add()

    engine = waiting_engine(gate)
    quarantined, events = dispatched(connected, plan, store, BOTH, disturb, make_engine=engine)
    assert quarantined == 0
    assert [event.kind for event in of(Failed, events)] == ["lost", "lost"]
    assert digests(store) == digests_of_the_engine(plan, cpu)


def waits_inside_an_epoch(begun: Path, gate: Path) -> Any:
    """For `Work`: an engine that waits in the middle of its first epoch until it is halted or the
    file `gate` is there. It leaves a file in the folder `begun`.

    Everything is inside, so that it travels by value: the workers do not have this module.
    """

    def make(data: Any, device: Any) -> Any:
        import threading
        import time
        import uuid
        from typing import Any

        from pcworker.training.engine import Engine

        class Waiting(Engine):
            def run(self, trials: Any, *, report: Any, halted: Any, **options: Any) -> Any:
                def report_and_wait(share: float) -> None:
                    report(share)
                    if share:
                        (begun / uuid.uuid4().hex).touch()
                    deadline, pause = time.monotonic() + 240, threading.Event()
                    while share and not halted() and not gate.exists():
                        assert time.monotonic() < deadline
                        pause.wait(0.05)

                return super().run(trials, report=report_and_wait, halted=halted, **options)

        return Waiting(data, device)

    return make


@dataclass(frozen=True)
class Drained:
    """What came of a sweep of whose two nodes some were drained, both workers being in the middle
    of an epoch."""

    plan: Plan
    store: Path
    lost: list[str]
    """The ids of the nodes that were drained. They have gone."""
    quarantined: int
    events: list[Any]


def drained(cluster: RayCluster, on_ray: ModuleType, folder: Path, nodes: list[Node]) -> Drained:
    """Runs the sweep. A node joins when no worker is left."""
    store, begun, gate = (folder / name for name in ("store", "begun", "gate"))
    begun.mkdir()
    plan = planned(store, networks=3, epochs=2, batch_size=2)
    lost = [node_ids()[node.address] for node in nodes]
    asked, halted = list[str](), list[Suspended]()

    def disturb(event: Any) -> None:
        if len(list(begun.iterdir())) == 2 and not asked:
            asked.extend(lost)
            for node_id in lost:
                cluster.drain(node_id, seconds=100)
        halted.extend(of(Suspended, [event]))
        if len(halted) == len(lost):
            gate.touch()
        starved = isinstance(event, Running) and gate.exists() and not event.workers
        if starved and len(cluster.nodes) == 2:
            cluster.add()

    engine = waits_inside_an_epoch(begun, gate)
    quarantined, events = dispatched(on_ray, plan, store, BOTH, disturb, make_engine=engine)
    assert wait_until(lambda: not set(lost) & set(node_ids().values()))  # Ray has ended them
    for node in nodes:
        cluster.kill(node)
    return Drained(plan, store, lost, quarantined, events)


def assert_nothing_failed(run: Drained, cpu: torch.device) -> None:
    assert (run.quarantined, of(Failed, run.events)) == (0, [])
    assert digests(run.store) == digests_of_the_engine(run.plan, cpu)
    halted = {event.shard: event for event in of(Suspended, run.events)}
    assert {event.worker.node_id for event in halted.values()} == set(run.lost)
    assert {event.reached for event in halted.values()} == {101 / 200}
    for finished in of(Finished, run.events):
        assert finished.resumed_from == (101 / 200 if finished.shard in halted else 0)


def test_a_drained_node_loses_no_work_and_its_shard_goes_on_elsewhere_in_mid_epoch(
    cluster: RayCluster, connected: ModuleType, cpu: torch.device, tmp_path: Path
) -> None:
    run = drained(cluster, connected, tmp_path, cluster.nodes[:1])
    assert_nothing_failed(run, cpu)
    [trouble] = of(Trouble, run.events)
    said = rf"node {run.lost[0][:8]} \(.+\) is being drained, \d+ s left: its shards go elsewhere"
    assert re.match(said, trouble.message), trouble.message
    places = {event.worker.node_id for event in of(Finished, run.events)}
    assert not places & set(run.lost)


@pytest.mark.long
def test_when_all_nodes_are_drained_the_sweep_waits_and_goes_on_by_itself(
    cluster: RayCluster, connected: ModuleType, cpu: torch.device, tmp_path: Path
) -> None:
    run = drained(cluster, connected, tmp_path, [*cluster.nodes])
    assert_nothing_failed(run, cpu)
    assert len(of(Trouble, run.events)) == 2
    assert len(of(Joined, run.events)) == 3


@dataclass(frozen=True)
class Sick:
    """A sweep on two nodes of which one fails everything, its Ray metrics, and its store."""

    node_id: str
    quarantined: int
    events: list[Any]
    plan: Plan
    store: Path


def sick_engine(node_id: str, failures: Path) -> Any:
    """For `Work`: an engine that fails on this node. Elsewhere it trains the first shard at once,
    and goes on when there have been three failures: else it might do all the work before them.

    All is inside, so that it travels by value: the workers do not have this module.
    """

    def make(data: Any, device: Any) -> Any:
        import threading
        import time
        import uuid
        from typing import Any

        import ray

        from pcworker.training.engine import Engine

        here = ray.get_runtime_context().get_node_id()

        class Unwell(Engine):
            runs = 0

            def run(self, trials: Any, **options: Any) -> Any:
                if here == node_id:
                    (failures / uuid.uuid4().hex).touch()
                    raise RuntimeError("this node is sick")
                deadline, pause = time.monotonic() + 120, threading.Event()
                while self.runs and len(list(failures.iterdir())) < 3:
                    assert time.monotonic() < deadline
                    pause.wait(0.05)
                self.runs += 1
                return super().run(trials, **options)

        return Unwell(data, device)

    return make


@pytest.fixture
def sick(cluster: RayCluster, connected: ModuleType, tmp_path: Path) -> Sick:
    store, failures = tmp_path / "store", tmp_path / "failures"
    failures.mkdir()
    node_id = node_ids()[cluster.nodes[0].address]
    plan = planned(store, networks=6, epochs=2, name="sick")
    make = sick_engine(node_id, failures)
    quarantined, events = dispatched(connected, plan, store, BOTH, make_engine=make)
    return Sick(node_id, quarantined, events, plan, store)


def test_a_node_that_fails_everything_is_named_and_gets_no_more_work(
    sick: Sick, cpu: torch.device
) -> None:
    assert sick.quarantined == 0
    failed = of(Failed, sick.events)
    assert {event.worker.node_id for event in failed} == {sick.node_id}
    assert {event.kind for event in failed} == {"error"}
    assert len(failed) == 3  # and then no more
    [trouble] = [
        e for e in of(Trouble, sick.events) if "has failed its last 3 attempts" in e.message
    ]
    assert f"node {sick.node_id[:8]}" in trouble.message
    assert "no more work" in trouble.message
    places = {event.worker.node_id for event in of(Finished, sick.events)}
    assert sick.node_id not in places
    assert digests(sick.store) == digests_of_the_engine(sick.plan, cpu)
