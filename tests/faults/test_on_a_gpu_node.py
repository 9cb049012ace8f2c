"""A sweep on a Ray cluster whose node has a GPU, which breaks while it trains.

The GPU is that of `emulated_runtime`, and MNIST has 70 digits. The oracle of every table is the
same sweep on a CPU, without Ray.
"""

import os
import subprocess
import sys
from pathlib import Path

import emulated_runtime
import pyarrow.parquet as pq
import pytest
from emulated_runtime import built, environment
from ray_clusters import ray_cluster
from tables import RESULTS, equal_tables, read_tables

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("ray")]

SWEEP = (
    *("--networks", "784-32-10,784-16-10", "--epochs", "2", "--t", "l,4", "--gamma", "0.5"),
    *("--sigma", "0,0.1", "--sweep", "small"),
)


def run(store: Path, *how: str, **changed: str) -> str:
    """The output of the sweep."""
    command = [sys.executable, "-m", "jobs.mnist_ablation", *SWEEP, "--store", str(store), *how]
    done = subprocess.run(
        command, env={**os.environ, **changed}, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_gpu_that_breaks_changes_no_bit(tmp_path: Path) -> None:
    if reason := emulated_runtime.missing():
        pytest.skip(reason)
    broken = tmp_path / "broken"
    gpu = environment(
        built(tmp_path / "runtime"), EMULATED_SAMPLES="70", EMULATED_BREAKS=str(broken)
    )
    with ray_cluster() as cluster:
        cluster.add(cpus=2, gpus=1, extra=gpu)
        how = ("--address", cluster.address, "--gpus-per-worker", "1", "--no-preflight")
        out = run(tmp_path / "gpu", *how, **{**cluster.environment(), **gpu})
    assert broken.exists()
    assert "At work: 1 GPU worker (Emulated GPU, 4 shards at once)." in out
    assert 'kind=lost error="AcceleratorError: CUDA error: unspecified launch failure"' in out
    few = {"PYTHONPATH": gpu["PYTHONPATH"], "EMULATED_SAMPLES": gpu["EMULATED_SAMPLES"]}
    run(tmp_path / "cpu", "--local-debug", **few)
    found, expected = (
        read_tables(tmp_path / kind / "sweeps/small/tables") for kind in ("gpu", "cpu")
    )
    assert all(equal_tables(found[name], expected[name]) for name in RESULTS)
    trials = pq.read_table(tmp_path / "gpu/sweeps/small/tables/trials.parquet")
    assert set(trials["device"].to_pylist()) == {"cuda: Emulated GPU, samples on a GPU"}
