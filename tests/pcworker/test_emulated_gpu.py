"""`phases.c` on an emulated GPU: no order of threads changes a bit, and ThreadSanitizer sees no
race. The oracle is its library for the CPU. A barrier that is left out shows."""

import ctypes
from functools import cache
from itertools import product
from pathlib import Path

import pytest
from emulated_gpu import ORDERS, EmulatedGpu
from emulated_phases import SITES, build_for, leave_out, same, trained, with_a_barrier_less
from small_sweep import CELLS
from thread_sanitizer import require_thread_sanitizer, watched

from pcworker.kernels.fixed.library import PHASES, built
from pcworker.kernels.fixed.trial import FixedTrial

NETWORKS = ("40-19-17-10", "50-16-3")
THREADS = 70
"""Two warps, and a part of a third one."""
UNNEEDED = {
    "predict: predict_from_pixels": "the next phase gives each sample to the thread that had it",
    "operate: forget": "the next phases give each number to the thread that had it",
    "operate: listen": "the next phases give each number to the thread that had it",
    "operate: move": "the next phases give each number to the thread that had it",
    "learn: product": "another barrier comes before anyone reads these weights",
    "make_updates: transpose": "another barrier comes before anyone reads these weights",
}
"""Why no bit can depend on a barrier, in the programs that there are."""


@cache
def expected(cell: int, network: str, dtype: str) -> FixedTrial:
    return trained(CELLS[cell], network, built(dtype))


def differing(gpu: EmulatedGpu, dtype: str) -> list[tuple[int, str]]:
    """The cells and networks whose bits are others than the CPU's."""
    build = build_for(gpu, dtype, THREADS)
    return [
        (cell, network)
        for cell, network in product(range(len(CELLS)), NETWORKS)
        if not same(trained(CELLS[cell], network, build), expected(cell, network, dtype))
    ]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_order_of_threads_changes_a_bit(dtype: str) -> None:
    for order in ORDERS:
        defines = ["DOUBLE"] if dtype == "float64" else []
        assert differing(EmulatedGpu(PHASES, (), defines, order=order, seed=3), dtype) == []


def test_a_barrier_that_is_left_out_is_noticed(tmp_path: Path) -> None:
    copy = with_a_barrier_less(tmp_path)
    every = [EmulatedGpu(copy, order=order, seed=3) for order in ORDERS]
    missed = set()
    for site, name in enumerate([*SITES, "none of them"]):
        leave_out(every[0], site)
        if not any(differing(gpu, "float32") for gpu in every):
            missed.add(name)
    assert missed == UNNEEDED.keys() | {"none of them"}


# ---- The emulator itself ----

KERNELS = """
extern __shared__ unsigned char shared_memory[];
extern "C" __global__ void halves(long long *out) {
    if (threadIdx.x < 40) __syncthreads();
    out[0] = 1;
}
extern "C" __global__ void half_a_warp(long long *out) {
    if (threadIdx.x % 32 < 16) __syncwarp();
    __syncthreads();
}
extern "C" __global__ void beyond(long long *out, long long at) { shared_memory[at] = 0; }
extern "C" __global__ void numbers(long long *out, long long base) {
    __shared__ int total;
    float *values = (float *)shared_memory;
    int lane = (int)threadIdx.x % 32;
    if (threadIdx.x == 0) total = values[0] == values[0];
    __syncthreads();
    atomicAdd(&total, 1);
    values[threadIdx.x] = (float)threadIdx.x;
    __syncthreads();
    long long from_next = __shfl_sync(~0u, (int)threadIdx.x, lane ^ 1);
    long long even = __popc(__ballot_sync(~0u, lane % 2 == 0));
    long long other = (long long)values[blockDim.x - 1 - threadIdx.x];
    out[blockIdx.x * blockDim.x + threadIdx.x] =
        base + total + 1000 * (from_next + 1000 * (even + 1000 * other));
}
"""


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("kernels") / "kernels.cu"
    source.write_text(KERNELS)
    return source


@pytest.mark.parametrize("order", ORDERS)
def test_threads_meet_and_pass_on_what_they_have(kernels: Path, order: str) -> None:
    out = (ctypes.c_longlong * 128)()
    EmulatedGpu(kernels, order=order).launch("numbers", 2, 64, 256, [ctypes.addressof(out), -1])
    one = [63 + 1000 * ((i ^ 1) + 1000 * (16 + 1000 * (63 - i))) for i in range(64)]
    assert list(out) == one * 2  # shared memory begins as NaN, not as a number that equals itself


@pytest.mark.parametrize(
    ("kernel", "trouble"),
    [
        ("halves", "not every thread of the block"),
        ("half_a_warp", "not every thread of the warp"),
        ("beyond", "writes beyond the shared memory"),
    ],
)
def test_a_wrong_kernel_is_an_error_and_hangs_nobody(
    kernels: Path, kernel: str, trouble: str
) -> None:
    out = ctypes.c_longlong()
    with pytest.raises(RuntimeError, match=trouble):
        EmulatedGpu(kernels).launch(kernel, 1, 64, 16, [ctypes.addressof(out), 16])


# ---- ThreadSanitizer ----


PROGRAM = """
import os, sys
del os.environ["LD_PRELOAD"]  # the compiler does not need it
from pathlib import Path
from emulated_gpu import REAL_THREADS, EmulatedGpu
from emulated_phases import SITES, build_for, leave_out, same, trained
from pcworker.kernels.fixed.library import built
cell = {{"rule": "IL", "t": 3, "gamma": 0.5, "bias": True, "sigma": 0.1}}
gpu = EmulatedGpu(Path({copy!r}), flags=REAL_THREADS)
build = build_for(gpu, "float32", 40)
print(same(trained(cell, "20-9-8-5", build), trained(cell, "20-9-8-5", built("float32"))))
print("without a barrier", file=sys.stderr, flush=True)
leave_out(gpu, SITES.index("operate: activate"))
trained(cell, "20-9-8-5", build)
"""


def test_thread_sanitizer_sees_a_race_only_without_a_barrier(tmp_path: Path) -> None:
    require_thread_sanitizer()
    done = watched(PROGRAM.format(copy=str(with_a_barrier_less(tmp_path))))
    whole, marker, without = done.stderr.partition("without a barrier\n")
    assert (done.stdout, whole) == ("True\n", "")
    assert marker
    assert "ThreadSanitizer: data race" in without
