"""Tests that need an NVIDIA GPU: `make test-gpu`. Oracle: the digests that CPUs have published, and
the kernel of this machine's CPU.

They need torch, NumPy and pytest alone, no network and no data set. What needs the rest of the
installation is left out, and says so.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from jobs.verify.check import Check
from jobs.verify.digests import defined
from jobs.verify.gpu import trainings_on
from pcworker.data.dataset import DataSet
from pcworker.data.mnist import Digits
from pcworker.errors import InputError
from pcworker.kernels.cuda.kernel import CudaKernel
from pcworker.kernels.cuda.launch import SAMPLES_CU, Launcher, bytes_needed, threads_of
from pcworker.kernels.cuda.torch_gpu import TorchGpu
from pcworker.kernels.fixed.kernel import FixedKernel
from pcworker.kernels.fixed.library import built
from pcworker.kernels.kernel import Kernel, Task
from pcworker.trials.configuration import CHOICES, configuration
from pcworker.trials.digests import network_digest
from pcworker.trials.measures import energy, to_numpy
from pcworker.trials.trial import Trial

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here"),
]
ROOT = Path(__file__).resolve().parents[2]
EPOCHS = 2
NETWORKS = [
    {"network": "784-32-10"},
    {"network": "784-32-32-10"},
    {"network": "784-32-32-32-10"},
    {"network": "784-30-17-10", "batch_size": 7, "bias": True, "reduction": "mean"},
    {"network": "784-32-10", "dtype": "float64", "activation": "tanh", "init": "linear"},
    {"network": "784-100-40-10", "batch_size": 33},
    {"network": "784-16-16-16-10", "activation": "relu", "arithmetic": "textbook"},
    {"network": "784-10", "batch_size": 1},
]


@pytest.fixture(scope="module")
def gpu() -> TorchGpu:
    return TorchGpu(torch.device("cuda", 0))


def title(check: Check) -> str:
    return check.title


@pytest.mark.parametrize("activation", CHOICES["activation"])
@pytest.mark.parametrize("dtype", CHOICES["dtype"])
def test_trainings_have_the_digests_that_cpus_have(
    gpu: TorchGpu, activation: str, dtype: str
) -> None:
    """200 updates of every rule and of torch.autograd, with every combination of settings."""
    chosen = [
        check
        for check in trainings_on(gpu)
        if check.dtype == dtype and check.name.endswith(f" {activation}")
    ]
    assert len(chosen) == 5
    found = {check.title: check.digest(None) for check in chosen}  # type: ignore[arg-type]
    assert found == {name: defined()[name] for name in found}


def digits(samples: int) -> Digits:
    """Digits of which one pixel of five is not 0, and 500 for the test."""
    random = np.random.default_rng(0)

    def images(count: int) -> np.ndarray:
        drawn = random.integers(256, size=(count, 784), dtype=np.uint8)
        return np.where(random.random((count, 784)) < 0.2, drawn, np.uint8(0))

    labels = [random.integers(10, size=count, dtype=np.uint8) for count in (samples, 500)]
    return Digits(images(samples), labels[0], images(500), labels[1])


def shard(common: dict[str, object]) -> list[Trial]:
    """Every rule, two seeds, noise, a BP trial, and a trial that does not stay finite."""
    cells: list[tuple[int, dict[str, object]]] = [
        (1, {"rule": "Z-IL"}),
        (1, {"rule": "Z-IL", "gamma": 0.5, "sigma": 0.1}),
        (1, {"rule": "IL", "t": 16, "gamma": 0.5}),
        (2, {"rule": "IL", "t": 3}),
        *([(1, {"rule": "Fa-Z-IL"})] if common["network"] != "784-10" else []),
        (1, {"rule": "BP"}),
        (2, {"rule": "BP"}),
        (1, {"rule": "IL", "t": 64, "gamma": 20.0}),
    ]
    return [Trial(configuration(**common, **cell), seed) for seed, cell in cells]  # type: ignore[arg-type]


def results(kernel: Kernel, samples: int) -> dict[Trial, object]:
    """What is known of every trial after two epochs, and of those that are not finite any more."""
    lost: dict[Trial, int] = {}
    for epoch in range(1, EPOCHS + 1):
        for look in kernel.train_epoch(epoch):
            fresh = {trial: at for trial, at in look.nonfinite.items() if trial not in lost}
            lost |= {trial: epoch * 1_000_000 + at for trial, at in fresh.items()}
            kernel.drop([trial for trial in fresh if trial != trial.twin])
    found: dict[Trial, object] = dict(lost)
    for trial, network in kernel.networks.items():
        if trial not in lost:
            measured = (kernel.test_error(trial), kernel.distance(trial))
            digest = network_digest(to_numpy(network.parameters()))
            found[trial] = (digest, *measured, energy(network.squares, samples))
    return found


def require_compiler() -> None:
    try:
        built("float32")
    except InputError as error:
        pytest.skip(f"left out: no CPU kernel to compare with ({error})")


@pytest.mark.parametrize("common", NETWORKS, ids=str)
def test_a_shard_has_the_results_of_this_machines_cpu(common: dict[str, object]) -> None:
    require_compiler()
    drawn = digits(14_030 if common.get("batch_size", 20) != 1 else 700)
    on_gpu, on_cpu = (DataSet(drawn, torch.device(where)) for where in ("cuda", "cpu"))
    trials = shard(common)
    ours = results(CudaKernel(Task(on_gpu, trials), TorchGpu(on_gpu.device)), on_gpu.samples)
    assert ours == results(FixedKernel(Task(on_cpu, trials)), on_cpu.samples)


def test_shards_that_are_trained_at_the_same_time_have_the_bits_that_they_have_alone() -> None:
    data = DataSet(digits(6_000), torch.device("cuda"))
    tasks = [Task(data, shard(common)) for common in NETWORKS[:3]]

    def train(task: Task) -> dict[Trial, object]:
        return results(CudaKernel(task, TorchGpu(data.device)), data.samples)

    alone = [train(task) for task in tasks]
    together: list[dict[Trial, object] | None] = [None] * len(tasks)

    def train_into(place: int) -> None:
        together[place] = train(tasks[place])

    threads = [threading.Thread(target=train_into, args=(place,)) for place in range(len(tasks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == alone


def test_every_gpu_object_has_a_stream_of_its_own() -> None:
    """torch has 32 streams, which it gives out in turn. The graph of one shard would take in what
    another shard launches in the same stream."""
    device = torch.device("cuda", 0)
    many = [TorchGpu(device) for _ in range(40)]
    streams = set()
    for gpu in many:
        with gpu.stream():
            streams.add(torch.cuda.current_stream().cuda_stream)
    assert len(streams) == 40


@pytest.mark.parametrize("common", NETWORKS[:3], ids=str)
def test_no_register_is_spilled_and_a_block_fits_a_multiprocessor(
    gpu: TorchGpu, common: dict[str, object]
) -> None:
    config = configuration(rule="Z-IL", **common)  # type: ignore[arg-type]
    launcher = Launcher(gpu, config)
    code = gpu.program(SAMPLES_CU, launcher.defines)
    assert not launcher.whole
    assert code.local_bytes("train_samples") == 0
    threads, shared = threads_of(config), bytes_needed(config)
    assert code.blocks_at_once("train_samples", threads, shared) >= 1


def test_a_worker_finds_this_gpu_exact() -> None:
    for name in ("tenacity", "rich"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"left out: the package {name} is not installed")
    require_compiler()
    from pcworker.kernels.exactness import require_exact
    from pcworker.machine.device import prepare_device

    found = require_exact(prepare_device("cuda", gpus=1, cpus=1), "fixed")
    assert (found.exact, found.kernel) == (True, "samples on a GPU")


SANITIZED = """
import torch
from jobs.verify.gpu import sample_checks
from pcworker.kernels.cuda.torch_gpu import TorchGpu
from jobs.verify.digests import defined
for check in sample_checks(TorchGpu(torch.device("cuda", 0))):
    assert check.digest(None) == defined()[check.title]
"""


@pytest.mark.parametrize("tool", ["memcheck", "racecheck"])
def test_the_sanitizer_finds_nothing(tool: str) -> None:
    places = ("/usr/local/cuda/bin", os.environ.get("PATH", ""))
    sanitizer = shutil.which("compute-sanitizer", path=os.pathsep.join(places))
    if sanitizer is None:
        pytest.skip("left out: compute-sanitizer is not installed")
    words = ["--report-api-errors", "no"] if tool == "memcheck" else []
    command = [sanitizer, "--tool", tool, *words, "--error-exitcode", "9"]
    program = [sys.executable, "-c", SANITIZED]
    # each tensor has memory of its own then, so that a read beyond one is seen
    environment = {**os.environ, "PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    try:
        done = subprocess.run(
            [*command, *program],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=150,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        pytest.skip("left out: compute-sanitizer takes more than 150 s here")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
