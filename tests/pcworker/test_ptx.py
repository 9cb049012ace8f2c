"""What NVRTC makes of the kernels of a GPU, on the emulator: the digests and results of the CPU.

Oracle: the defined digests of `jobs.verify`, and the kernel of the CPU. test_ptx_emulator.py tests
the emulator itself.

`compute_90` and `compute_100` are two compilers: NVRTC has one for the GPUs before Blackwell, and
another one, fifteen versions later, from there on.
"""

import re
from functools import partial
from typing import Any

import pytest
import torch
from emulated_device import EmulatedDevice
from emulated_ptx import EmulatedPtx
from nvrtc_ptx import require_nvrtc
from ptx_text import UnknownPtx
from whole_shards import NETWORKS, digits, trained, trials

from jobs.verify.check import Check
from jobs.verify.digests import defined
from jobs.verify.gpu import trainings_on
from pcworker.data.dataset import DataSet
from pcworker.kernels.cuda.kernel import CudaKernel
from pcworker.kernels.cuda.launch import SAMPLES_CU
from pcworker.kernels.fixed.kernel import FixedKernel
from pcworker.kernels.kernel import Task

ARCHES = ("compute_90", "compute_100")


def on_ptx(arch: str, order: str = "shuffled") -> EmulatedDevice:
    return EmulatedDevice(order, compiler=partial(EmulatedPtx, arch=arch))


QUICK = {
    ("compute_90", "IL with sigmoid, float32"),
    ("compute_90", "Z-IL with sigmoid, float32"),
}
DEFINED = [
    pytest.param(
        arch,
        check,
        id=f"{arch}-{check.title}",
        marks=[] if (arch, check.title) in QUICK else pytest.mark.long,
    )
    for arch in ARCHES
    for check in trainings_on(on_ptx(arch))
]


@pytest.mark.parametrize(("arch", "check"), DEFINED)
def test_trainings_have_the_defined_digests(arch: str, check: Check) -> None:
    require_nvrtc(arch)
    assert check.digest(None) == defined()[check.title]  # type: ignore[arg-type]


SAMPLES, WIDE, TEXTBOOK = NETWORKS[1], NETWORKS[3], NETWORKS[4]
QUICK_SHARDS = [
    ("compute_90", SAMPLES, "ascending"),
    ("compute_90", WIDE, "shuffled"),
    ("compute_100", TEXTBOOK, "reversed"),
]
SHARDS = [
    *QUICK_SHARDS,
    *(
        pytest.param(arch, common, order, marks=pytest.mark.long)
        for arch in ARCHES
        for common in NETWORKS
        for order in ("ascending", "shuffled", "reversed")
        if (arch, common, order) not in QUICK_SHARDS
    ),
]


@pytest.mark.parametrize(("arch", "common", "order"), SHARDS, ids=str)
def test_a_shard_has_the_results_of_the_cpu(
    arch: str, common: dict[str, object], order: str
) -> None:
    require_nvrtc(arch)
    data = DataSet(digits(130), torch.device("cpu"))
    task = Task(data, trials(common))
    kernel = CudaKernel(task, on_ptx(arch, order))
    ours = trained(kernel, list(task.trials), data.samples)
    assert ours == trained(FixedKernel(task), list(task.trials), data.samples)
    assert kernel.name == ("phases on a GPU" if common is WIDE else "samples on a GPU")


# ---- What would be seen ----


class _Rounded(EmulatedPtx):
    """PTX of which each operation is rounded, also those that a later step might still fuse."""

    def __init__(self, *given: Any, **how: Any) -> None:
        super().__init__(*given, **how)
        self.text = re.sub(r"\b(add|sub|mul)\.(?=f32|f64)", r"\1.rn.", self.text)


@pytest.mark.long
def test_a_product_and_a_sum_that_are_fused_are_seen() -> None:
    """A test of the tests above: this is what the option --fmad=false of `nvrtc.py` is for. In
    float32 BP would have the same digest, because the square of a number of float32 is exact in the
    float64 in which errors are summed."""
    require_nvrtc()
    title = "BP with relu, float64"
    device = EmulatedDevice(compiler=_Rounded, flags=("--fmad=true",))
    (check,) = (check for check in trainings_on(device) if check.title == title)
    assert check.digest(None) != defined()[title]  # type: ignore[arg-type]


def test_a_product_and_a_sum_that_may_still_be_fused_are_an_error() -> None:
    """An operation without `.rn` is fused when the GPU's machine code is made, if at all."""
    require_nvrtc()
    device = EmulatedDevice(compiler=EmulatedPtx, flags=("--fmad=true",))
    program = device.program(SAMPLES_CU, [])
    with pytest.raises(UnknownPtx, match=r"unknown instruction: (add|sub|mul)\.f32 "):
        program.launch("train_phases", 1, 32, 0, [0])
