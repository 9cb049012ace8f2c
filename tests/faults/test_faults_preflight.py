"""Faults of nodes and of Ray itself, which would break a run on a cluster, are found before it.

Each fault is planted in a real cluster on this machine, in the environment that a node starts with,
and `python -m jobs.preflight` finds it. The faults of stores, data and disks are in
`test_preflight`.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from preflight_lines import CHECKS, SMALL, bad, lines_of
from ray_clusters import PATIENCE_S, OpenRayCluster, RayCluster, clean_environment, ray_cluster

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("ray")]

ROOT = Path(__file__).resolve().parents[2]
IN_WORKERS = """
import sys
if any("default_worker" in word or word == "--local-debug" for word in sys.orig_argv):
"""
"""The beginning of a node's sitecustomize, which every Python there runs when it starts."""
WITHOUT_INSTALLATION = (
    IN_WORKERS
    + """
    sys.meta_path = [one for one in sys.meta_path if "__editable__" not in str(one)]
"""
)
OTHER_MM = """
    import torch
    library = torch.library.Library("aten", "IMPL")
    def mm(a, b):
        return torch.bmm(a.double()[None], b.double()[None])[0].to(a.dtype)
    library.impl("mm", mm, "CPU")
"""
"""This does what an accelerator's plugin does: nn.Linear multiplies by another kernel."""
HANG = """
    import threading
    threading.Event().wait()
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayCluster]:
    """A head without CPUs, and a node that is well. Both have the libraries alone: nothing in a
    worker's path leads to a checkout, neither the driver's folder, which Ray puts there, nor the
    installation that the tests run in."""
    folder = tmp_path_factory.mktemp("bare")
    (folder / "sitecustomize.py").write_text(WITHOUT_INSTALLATION)
    with ray_cluster(extra={"PYTHONPATH": str(folder)}) as running:
        running.add()
        running.wait()
        yield running


@contextmanager
def with_node(cluster: RayCluster, gpus: int = 0, **environment: str) -> Iterator[None]:
    node = cluster.add(gpus=gpus, extra=environment)
    cluster.wait()
    try:
        yield
    finally:
        cluster.kill(node)
        cluster.wait()  # Ray gives a lost node to the next test until it has noticed


def run(
    environment: dict[str, str], *command: str, cwd: Path = ROOT
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *command], cwd=cwd, env=environment,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip


def preflight(
    cluster: RayCluster, store: Path, *options: str
) -> "subprocess.CompletedProcess[str]":
    where = ("--store", str(store), "--address", cluster.address)
    return run(cluster.environment(), "-m", "jobs.preflight", *where, *options)


def fault(done: "subprocess.CompletedProcess[str]", *checks: str) -> dict[str, str]:
    """The lines that are not ok, which are of these checks, and fail."""
    assert done.returncode == 2, done.stdout + done.stderr
    lines = lines_of(done)
    assert list(lines) == CHECKS
    wrong = bad(lines)
    assert tuple(wrong) == checks, done.stdout
    return wrong


def test_a_cluster_that_is_well_passes_and_is_looked_at_by_shipped_sources(
    cluster: RayCluster, tmp_path: Path
) -> None:
    """A job that is not submitted cannot run there, and says so."""
    store = tmp_path / "store"
    where = ("--store", str(store), "--address", cluster.address)
    environment = {**cluster.environment(), "PYTHONPATH": str(ROOT)}
    look = run(environment, "-m", "jobs.preflight", *where, cwd=tmp_path)
    job = run(environment, "-m", "jobs.mnist_ablation", *SMALL, *where, cwd=tmp_path)
    submitted = run(environment, "-m", "jobs.submit", "--", "jobs.preflight", *where[:2])
    for done in (look, submitted):
        assert done.returncode == 0, done.stdout + done.stderr
        lines = lines_of(done)
        assert list(lines) == CHECKS and bad(lines) == {}
        assert "1 node with room for a worker answered" in lines["nodes"]  # the head has none
        assert lines["token"].endswith("Ray asks for it")
        assert f"{cluster.dashboard.removeprefix('http://')} asks for a token" in lines["dashboard"]
    assert job.returncode == 2
    assert "does not answer: No module named '" in lines_of(job)["nodes"]
    assert "python -m jobs.submit ships the sources" in lines_of(job)["nodes"]
    assert not list(store.rglob("plan.json"))


def test_faults_7_and_9_a_node_with_another_library_and_another_arithmetic(
    cluster: RayCluster, tmp_path: Path
) -> None:
    """The node's Python finds the metadata of a pyarrow that is not the driver's, and its workers
    multiply by another kernel."""
    metadata = tmp_path / "pyarrow-18.0.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: pyarrow\nVersion: 18.0.0\n")
    (tmp_path / "sitecustomize.py").write_text(IN_WORKERS + OTHER_MM)
    with with_node(cluster, PYTHONPATH=str(tmp_path)):
        library = ("--sums", "library")
        wrong = fault(preflight(cluster, tmp_path / "store", *library), "versions", "exactness")
    found = r"FAIL +versions +\S+/[0-9a-f]{8} has pyarrow 18.0.0, the driver [\d.]+; install"
    assert re.match(found, wrong["versions"]), wrong
    found = r"FAIL +exactness +on \S+/[0-9a-f]{8} Z-IL's weights are not those of torch.autograd"
    assert re.match(found, wrong["exactness"]), wrong


def test_fault_8_no_gpu_where_one_is_asked_for(cluster: RayCluster, tmp_path: Path) -> None:
    gpu = ("--device", "cuda", "--gpus-per-worker", "1")
    done = preflight(cluster, tmp_path, *gpu)
    assert done.returncode == 2
    line = lines_of(done)["nodes"]
    assert line.startswith("FAIL ") and "0 GPUs" in line and "lower" in line


HOLD = """
import sys
import ray
ray.init(sys.argv[1], log_to_driver=False, logging_level="ERROR")
@ray.remote(num_cpus=0, num_gpus=1)
class Holder:
    def there(self):
        return "held"
holder = Holder.remote()
print(ray.get(holder.there.remote()), flush=True)
sys.stdin.read()
"""


@contextmanager
def holding_a_gpu(cluster: RayCluster) -> Iterator[None]:
    """Another driver, whose worker has one."""
    command = [sys.executable, "-c", HOLD, cluster.address]
    with subprocess.Popen(
        command, cwd=ROOT, env=cluster.environment(), stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    ) as other:  # fmt: skip
        assert other.stdin is not None and other.stdout is not None
        try:
            assert other.stdout.readline() == "held\n"
            yield
        finally:
            other.stdin.close()


def test_a_gpu_without_cuda_is_a_fault_and_a_gpu_at_work_is_not_waited_for(
    cluster: RayCluster, tmp_path: Path
) -> None:
    """Ray believes what it is told of GPUs; torch does not."""
    with with_node(cluster, gpus=1):
        done = preflight(cluster, tmp_path, "--device", "cuda", "--gpus-per-worker", "1")
        assert done.returncode == 2, done.stdout + done.stderr
        line = bad(lines_of(done))["devices"]
        assert line.startswith("FAIL ") and "finds no working CUDA device" in line
        with holding_a_gpu(cluster):
            done = preflight(cluster, tmp_path, "--gpus-per-worker", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = lines_of(done)
    assert {check: line[:5].strip() for check, line in bad(lines).items()} == {
        "nodes": "warn", "devices": "skip", "exactness": "skip",
    }  # fmt: skip
    assert "its GPUs are at work: not looked at" in lines["nodes"]


def test_a_worker_of_a_local_ray_does_not_start_on_such_a_machine(tmp_path: Path) -> None:
    """Where the driver asks no node. Told to, a worker runs, here in the driver's process."""
    (tmp_path / "sitecustomize.py").write_text(IN_WORKERS + OTHER_MM)
    store = tmp_path / "store"
    job = ("-m", "jobs.mnist_ablation", *SMALL, "--batch-size", "500", "--store", str(store))
    job = (*job, "--sums", "library")
    environment = {**clean_environment(tmp_path), "PYTHONPATH": str(tmp_path)}
    refused = run(environment, *job, "--workers", "1")
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert refused.stderr.count("\n") == 1
    assert "Z-IL's weights are not those of torch.autograd on cpu: " in refused.stderr
    assert "--no-preflight runs anyway" in refused.stderr
    assert not list(store.rglob("commit.json"))
    told = run(environment, *job, "--local-debug", "--no-preflight")
    assert told.returncode == 0, told.stdout + told.stderr
    assert len(list(store.rglob("commit.json"))) == 1


LOOK = """
import sys
from cluster.nodes.resources import Resources, ray_environment
address = ray_environment(sys.argv[1])
from cluster.nodes.connect import connected
from cluster.preflight.look import look_at_ray
with connected(address, ships=True) as to:
    found = look_at_ray(to, Resources(None, 1, 0, "auto"), sums="fixed", node_s=45)
for node in found.nodes:
    print(node.silent, node.exact)
"""
"""The code that looks, with less patience."""


def test_a_node_that_does_not_answer_is_a_finding_and_not_a_hang(
    cluster: RayCluster, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(IN_WORKERS + HANG)
    with with_node(cluster, PYTHONPATH=str(tmp_path)):
        done = run(cluster.environment(), "-c", LOOK, cluster.address)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["None True", "not within 45 s False"]


def test_fault_10_a_ray_without_a_token_and_with_a_public_dashboard(tmp_path: Path) -> None:
    """A job is not started there. The cluster has no node yet, which is a warning only."""
    with ray_cluster(OpenRayCluster) as cluster:
        store = ("--store", str(tmp_path / "store"), "--address", cluster.address)
        job = ("-m", "jobs.mnist_ablation", *SMALL, *store)
        refused = run(cluster.environment(), *job)
    assert refused.returncode == 2, refused.stdout + refused.stderr
    wrong = bad(lines_of(refused))  # a job prints no others
    assert tuple(wrong) == ("nodes", "token", "dashboard"), refused.stdout
    assert wrong["token"].startswith("FAIL ")
    assert "export RAY_AUTH_MODE=token on every node" in wrong["token"]
    assert wrong["dashboard"].startswith("FAIL ")
    assert "is public and takes jobs without a token" in wrong["dashboard"]
    assert refused.stderr.count("\n") == 1 and "2 of 13 checks" in refused.stderr
    assert not list((tmp_path / "store").rglob("*.json"))
