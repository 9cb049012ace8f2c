"""The machine code of `samples.cu`, and how many of its blocks the GPUs that people have can run.

The oracle is the source, and what NVIDIA states of its GPUs. No GPU is needed.
"""

from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

import machine_code
import pytest
from machine_code import Instruction, counts, instructions, is_compilers_own, loops, resources

from pcworker.kernels.cuda.driver import GpuLimits
from pcworker.kernels.cuda.launch import SAMPLES, SAMPLES_CU, bytes_needed, fits, threads_of
from pcworker.kernels.cuda.nvrtc import CudaError, cubin
from pcworker.kernels.fixed.library import PHASES
from pcworker.trials.configuration import Configuration, configuration

NETWORKS = ("784-32-10", "784-32-32-10", "784-32-32-32-10")
ARCHES = ("sm_80", "sm_86", "sm_90", "sm_100", "sm_120")
FAST = [
    *(("sm_90", network, "float32") for network in NETWORKS),
    *((arch, NETWORKS[0], "float32") for arch in ARCHES if arch != "sm_90"),
]
EVERY = product(ARCHES, NETWORKS, ("float32", "float64"))
LONG = [pytest.param(build, marks=pytest.mark.long) for build in EVERY if build not in FAST]

MOST_INSTRUCTIONS = {"784-32-10": 130, "784-32-32-10": 300, "784-32-32-32-10": 460}
"""The most instructions of a sample and an inference step of IL, without those that choose the next
operation. 42 %, 46 % and 47 % of them are fused multiply-adds."""

GPUS = [
    GpuLimits("A100", "sm_80", 108, 166_912, 167_936, 65_536, 40 * 2**20),
    GpuLimits("RTX 3090", "sm_86", 82, 101_376, 102_400, 65_536, 6 * 2**20),
    GpuLimits("H100", "sm_90", 132, 232_448, 233_472, 65_536, 50 * 2**20),
    GpuLimits("B200", "sm_100", 148, 232_448, 233_472, 65_536, 126 * 2**20),
    GpuLimits("RTX 5090", "sm_120", 170, 101_376, 102_400, 65_536, 96 * 2**20),
]
"""From NVIDIA's CUDA C++ programming guide, table of technical specifications."""


def config_of(network: str, dtype: str = "float32") -> Configuration:
    return configuration(network=network, rule="Z-IL", dtype=dtype)


def defines(config: Configuration) -> list[str]:
    widths = ",".join(map(str, config.widths))
    double = ["DOUBLE"] if config.dtype == "float64" else []
    return [
        *double,
        *(f"WIDTHS={widths}", f"BATCH={config.batch_size}", f"SAMPLES={SAMPLES}"),
        *("F=SIGMOID", "TEXTBOOK=0", "BIASED=0"),
    ]


@cache
def code_of(arch: str, network: str, dtype: str) -> bytes:
    try:
        return cubin(SAMPLES_CU, [PHASES], arch, defines(config_of(network, dtype)))
    except CudaError as error:
        pytest.skip(str(error))


@dataclass(frozen=True)
class Made:
    """What NVRTC made of `samples.cu` for one network."""

    arch: str
    network: str
    dtype: str

    @property
    def code(self) -> bytes:
        return code_of(self.arch, self.network, self.dtype)


@pytest.fixture(scope="module", params=[*FAST, *LONG], ids="-".join)
def made(request: pytest.FixtureRequest) -> Made:
    if reason := machine_code.missing():
        pytest.skip(reason)
    return Made(*request.param)


def test_no_register_is_spilled(made: Made) -> None:
    found = resources(made.code)
    for kernel in ("train_samples", "train_phases"):
        assert (found[kernel]["LOCAL"], found[kernel]["STACK"]) == (0, 0), kernel
    for name, function in instructions(made.code).items():
        assert not {"STL", "LDL"} & counts(function).keys(), name


def test_nothing_is_approximate_but_the_start_of_a_division(made: Made) -> None:
    start = "MUFU.RCP64H" if made.dtype == "float64" else "MUFU.RCP"
    for name, function in instructions(made.code).items():
        if is_compilers_own(name) or not name.startswith("train_samples"):
            continue
        found = {i.opcode for i in function if i.name == "MUFU" or ".FTZ" in i.opcode}
        # a division of integers begins with a float32 reciprocal, which is not subnormal
        assert found <= {start, "MUFU.RCP", "F2I.FTZ.U32.TRUNC.NTZ"}, name


STEP = """
#include "samples.cu"
extern "C" __global__ void __launch_bounds__(WARPS * UNITS)
step(const Trial *t, const Batches *b, int steps, real *out, int *right) {
    extern __shared__ __align__(16) unsigned char shared_memory[];
    Shared *m = (Shared *)shared_memory;
    int number = (int)threadIdx.x / UNITS;
    Warp w = {number, (int)threadIdx.x % UNITS, number * SAMPLES, t, b, m, t->gamma, 0, 0};
    Activities x = {};
    for (int l = 0; l < L; l++)
        EACH_SAMPLE {
            x.a[l][s] = out[threadIdx.x + l + s];
            x.d[l][s] = out[2 * threadIdx.x + l + s];
            x.mu[l][s] = out[3 * threadIdx.x + l + s];
        }
    copy_weights(t, m, 0);
    _Pragma("unroll 1") for (int i = 0; i < steps; i++) { OPERATIONS }
    for (int l = 0; l < L; l++) EACH_SAMPLE out[threadIdx.x + l + s] = x.d[l][s];
}
"""
"""A step of IL as `train_samples` makes it, with its operations in a row."""


def a_step(config: Configuration) -> str:
    hidden, every = range(1, config.l_max), range(config.l_max)
    operations = [
        *(("ACTIVATE", l) for l in hidden),
        *(("PREDICT", l) for l in every[:-1]),
        *(("COMPARE", l) for l in every),
        *(("MOVE", l) for l in hidden),
    ]
    row = (f"__syncwarp(); operate_on<{l}>({name}, w, x, right);" for name, l in operations)
    return STEP.replace("OPERATIONS", " ".join(row))


def executed(loop: list[Instruction], every: list[list[Instruction]]) -> int:
    """The instructions of a round of a loop. The loops in it add 32 products, some at a time."""
    inner = [
        other
        for other in every
        if loop[0].place < other[0].place and other[-1].place <= loop[-1].place
        and counts(other)["FFMA"] >= SAMPLES
    ]  # fmt: skip
    rounds = [32 * SAMPLES // counts(other)["FFMA"] for other in inner]
    return len(loop) + sum(
        (times - 1) * len(other) for times, other in zip(rounds, inner, strict=True)
    )


@pytest.mark.parametrize("network", NETWORKS)
def test_a_step_has_few_instructions(network: str, tmp_path: Path) -> None:
    if reason := machine_code.missing():
        pytest.skip(reason)
    config = config_of(network)
    source = tmp_path / "step.cu"
    source.write_text(a_step(config))
    try:
        code = cubin(source, [SAMPLES_CU, PHASES], "sm_90", defines(config))
    except CudaError as error:
        pytest.skip(str(error))
    every = loops(instructions(code)["step"])
    step = max((loop for loop in every if counts(loop)["FFMA"]), key=len)
    most = MOST_INSTRUCTIONS[network]
    assert 0.8 * most < executed(step, every) / SAMPLES <= most


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.name)
@pytest.mark.parametrize("network", NETWORKS)
def test_which_networks_fit_and_three_trials_share_a_large_multiprocessors_memory(
    gpu: GpuLimits, network: str
) -> None:
    """A GeForce has 99 kB of shared memory a block. In float64 the largest of the paper's networks
    does not fit there, and `train_phases` trains it."""
    config, double = config_of(network), config_of(network, "float64")
    assert fits(config, gpu.shared_of_block)
    geforce = gpu.shared_of_block < 100 * 1024
    assert fits(double, gpu.shared_of_block) == (not geforce or network != NETWORKS[-1])
    by_memory = gpu.shared_of_multiprocessor // (bytes_needed(config) + 1024)
    assert by_memory >= (1 if geforce else 3)


def test_registers_leave_room_for_several_trials_on_a_multiprocessor(made: Made) -> None:
    """On the newest GPUs, three would make the compiler spill some."""
    most = {"sm_100": 2, "sm_120": 2}.get(made.arch, 3) if made.dtype == "float32" else 1
    threads = threads_of(config_of(made.network))
    assert resources(made.code)["train_samples"]["REG"] * threads * most <= 65_536
