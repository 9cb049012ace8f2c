"""Where a worker computes: what it was given, or an error; never something else."""

import subprocess
import sys

import pytest
import torch

from pcworker.errors import InputError
from pcworker.machine.device import (
    FREE_MEMORY_BYTES,
    device_name,
    numerics,
    prepare_device,
    require_enough,
)

no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a working GPU")


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_without_a_gpu_it_is_the_cpu_with_a_thread_per_core(device: str) -> None:
    assert prepare_device(device, gpus=0, cpus=1) == torch.device("cpu")
    assert torch.get_num_threads() == 1
    assert device_name(torch.device("cpu")).endswith("1 thread(s)")


def test_a_gpu_that_was_assigned_is_not_used_if_the_cpu_is_asked_for() -> None:
    assert prepare_device("cpu", gpus=1, cpus=1) == torch.device("cpu")


@no_gpu
@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_an_assigned_gpu_without_working_cuda_is_an_error(device: str) -> None:
    with pytest.raises(InputError, match="finds no working CUDA device"):
        prepare_device(device, gpus=1, cpus=1)


def test_a_gpu_with_too_little_free_memory_is_refused_with_what_it_has() -> None:
    require_enough("a GPU", FREE_MEMORY_BYTES, 80 * 2**30)
    with pytest.raises(InputError, match=r"a GPU has 1023 of 81920 MiB free, .* needs 1024"):
        require_enough("a GPU", FREE_MEMORY_BYTES - 2**20, 80 * 2**30)


def test_what_numbers_depend_on_is_recorded() -> None:
    prepare_device("cpu", gpus=0, cpus=1)
    recorded = numerics()
    assert recorded["threads"] == 1
    assert recorded["deterministic_algorithms"] is True
    assert recorded["tf32"] is False


START = """
import sys
from pcworker.kernels.exactness import require_exact
from pcworker.machine.device import prepare_device
require_exact(prepare_device("cpu", gpus=0, cpus=1), sys.argv[1])
sys.exit("torch._dynamo" in sys.modules)
"""


@pytest.mark.parametrize("sums", ["fixed", "library"])
def test_a_worker_starts_without_torchs_compiler(sums: str) -> None:
    """To import it takes as long as to import torch."""
    assert subprocess.run([sys.executable, "-c", START, sums]).returncode == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_an_assigned_gpu_is_used() -> None:
    assert prepare_device("auto", gpus=1, cpus=1).type == "cuda"
    assert numerics()["cuda"] == torch.version.cuda
