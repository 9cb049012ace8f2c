"""Sweeps on a Ray cluster whose node has a slice of a GPU (MIG), which breaks while it trains.

The GPU is that of `emulated_runtime`, and MNIST has 70 digits. The slice is known by its name. The
oracle of every table of the ablation is the same sweep on a CPU, without Ray; that of the timing
run is BP in the same run.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import emulated_runtime
import pyarrow.parquet as pq
import pytest
from emulated_runtime import built, environment
from ray_clusters import RayCluster, ray_cluster
from tables import RESULTS, equal_tables, read_tables

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("ray")]

ABLATION = (
    *("jobs.mnist_ablation", "--networks", "784-32-10,784-16-10", "--epochs", "2"),
    *("--t", "l,4", "--gamma", "0.5", "--sigma", "0,0.1"),
)
SLICE = "MIG-0b5d7a1c-2f41-5c1e-9d3a-6f0e8c7b4a21"
TIMING = (
    *("jobs.imagenet_timing", "--networks", "small-conv", "--t", "3", "--updates", "2"),
    *("--warmup", "1", "--executions", "plain,graph"),
)


@dataclass(frozen=True)
class GpuCluster:
    """A cluster with one GPU, and what a process needs to use it."""

    ray: RayCluster
    environment: dict[str, str]
    broken: Path
    """A file that is there when the GPU has broken."""


@pytest.fixture(scope="module")
def gpu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GpuCluster]:
    if reason := emulated_runtime.missing():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("gpu")
    more = {"EMULATED_SAMPLES": "70", "EMULATED_BREAKS": str(folder / "broken")}
    here = environment(built(folder / "runtime"), EMULATED_KERNELS="all", **more)
    with ray_cluster() as cluster:
        cluster.add(cpus=2, gpus=1, extra={**here, "CUDA_VISIBLE_DEVICES": SLICE})
        yield GpuCluster(cluster, here, folder / "broken")


def run(*words: str, **changed: str) -> str:
    """The output of a sweep."""
    done = subprocess.run(
        [sys.executable, "-m", *words, "--sweep", "small"],
        env={**os.environ, **changed}, capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_on(gpu: GpuCluster, sweep: tuple[str, ...], store: Path) -> str:
    """The output of a sweep on the GPU."""
    how = ("--address", gpu.ray.address, "--gpus-per-worker", "1", "--no-preflight")
    changed = {**gpu.ray.environment(), **gpu.environment}
    return run(*sweep, "--store", str(store), *how, **changed)


def test_a_gpu_that_breaks_changes_no_bit(gpu: GpuCluster, tmp_path: Path) -> None:
    out = run_on(gpu, ABLATION, tmp_path / "gpu")
    assert gpu.broken.exists()
    assert "At work: 1 GPU worker (Emulated GPU MIG 1g.10gb, 4 shards at once)." in out
    assert 'kind=lost error="AcceleratorError: CUDA error: unspecified launch failure"' in out
    few = {name: gpu.environment[name] for name in ("PYTHONPATH", "EMULATED_SAMPLES")}
    run(*ABLATION, "--store", str(tmp_path / "cpu"), "--local-debug", **few)
    tables = [tmp_path / kind / "sweeps/small/tables" for kind in ("gpu", "cpu")]
    found, expected = map(read_tables, tables)
    assert all(equal_tables(found[name], expected[name]) for name in RESULTS)
    devices = pq.read_table(tables[0] / "trials.parquet")["device"].to_pylist()
    assert set(devices) == {"cuda: Emulated GPU MIG 1g.10gb, samples on a GPU"}


def test_the_rules_of_table_4_are_captured_as_graphs_and_stay_exact(
    gpu: GpuCluster, tmp_path: Path
) -> None:
    run_on(gpu, TIMING, tmp_path)
    rows = pq.read_table(tmp_path / "sweeps/small/tables/timings.parquet").to_pylist()
    exact = {(row["rule"], row["schedule"], row["execution"]) for row in rows if row["exact"]}
    assert exact == {
        (rule, schedule, execution)
        for execution in ("plain", "graph")
        for rule, schedule in [
            ("BP", None),
            *(("Z-IL", schedule) for schedule in ("layerwise", "literal")),
            ("Fa-Z-IL", "layerwise"),
        ]
    }
