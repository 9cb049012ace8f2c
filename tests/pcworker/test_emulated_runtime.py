"""What is said to a GPU through torch: streams, events, captured graphs, memory and launches.

The oracle is the kernel of the CPU, and what CUDA allows, on an emulated runtime of CUDA. Programs
run in processes of their own, because a process has torch's runtime or the emulated one.
"""

import os
import subprocess
import sys
from pathlib import Path

import emulated_runtime
import pytest
from emulated_runtime import environment
from trained_on_torchs_gpu import LEFT_OUT


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if reason := emulated_runtime.missing():
        pytest.skip(reason)
    return emulated_runtime.built(tmp_path_factory.mktemp("runtime"))


def run(runtime: Path, *words: str, times: str = "late", **more: str) -> tuple[int, str, str]:
    """The exit code, the output and the errors of Python with these words."""
    done = subprocess.run(
        [sys.executable, *words],
        env={**os.environ, **environment(runtime, times, **more)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    return done.returncode, done.stdout, done.stderr


LONG = [pytest.param(times, marks=pytest.mark.long) for times in ("at once", "between")]


@pytest.mark.parametrize("times", ["late", *LONG])
def test_shards_have_the_results_of_the_cpu(runtime: Path, times: str) -> None:
    found = run(runtime, "-m", "trained_on_torchs_gpu", "nothing", times=times)
    assert found[:2] == (0, "True\nTrue\n"), found[2]


@pytest.mark.long
@pytest.mark.parametrize("left_out", LEFT_OUT)
def test_a_wait_that_is_left_out_is_noticed(runtime: Path, left_out: str) -> None:
    """A test of the test above. A kernel that reads what is not there yet may even end the
    process."""
    code, out, _ = run(runtime, "-m", "trained_on_torchs_gpu", left_out)
    assert "True" not in out
    assert (code, out) != (0, "")


@pytest.mark.long
def test_trainings_have_the_defined_digests(runtime: Path) -> None:
    """Those of every rule and of torch.autograd, for every f, in both dtypes."""
    code, out, errors = run(runtime, "-m", "jobs.verify", "--gpu")
    assert (code, "All 30 checks have the defined bits." in out) == (0, True), errors


def said(runtime: Path, program: str, **more: str) -> list[str]:
    """The lines that a program prints, with those of its errors."""
    begin = "import torch\ntorch.cuda.init()\n"
    _, out, errors = run(runtime, "-c", begin + program, **more)
    return [*out.splitlines(), *errors.splitlines()]


CAPTURES = """
def captured(work):
    stream, other = torch.cuda.Stream(), torch.cuda.Stream()
    x, graph = torch.zeros(4, device="cuda"), torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    try:
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            work(x, stream, other)
    except RuntimeError as error:
        return str(error.__context__ or error).splitlines()[0]
    graph.replay()
    return x.tolist()

def beside(x, stream, other):
    other.wait_stream(stream)
    with torch.cuda.stream(other):
        x.fill_(1)

def joined(x, stream, other):
    beside(x, stream, other)
    stream.wait_stream(other)

print(captured(lambda x, stream, other: x.fill_(2)))
print(captured(joined))
print(captured(beside))
print(captured(lambda x, stream, other: stream.synchronize()))
print(captured(lambda x, stream, other: torch.cuda.synchronize()))
"""


def test_graphs_are_captured_as_cuda_allows_it(runtime: Path) -> None:
    refused = "CUDA error: operation not permitted when stream is capturing"
    assert said(runtime, CAPTURES) == [
        *("[2.0, 2.0, 2.0, 2.0]", "[1.0, 1.0, 1.0, 1.0]"),
        "CUDA error: capturing stream has unjoined work",
        *(refused, refused),
    ]


def test_work_waits_until_somebody_waits_for_it(runtime: Path) -> None:
    """Memory that nobody has written is NaN. A kernel of torch's that our engine does not need is
    an error that names it."""
    program = """
a, b = torch.cuda.Stream(), torch.cuda.Stream()
with torch.cuda.stream(a):
    x = torch.empty(1, device="cuda")
    x.fill_(5)
with torch.cuda.stream(b):
    before = x.item()
    b.wait_stream(a)
    print(before, x.item())
x.exp_()
"""
    lines = said(runtime, program)
    assert lines[0] == "nan 5.0"
    assert "emulated GPU: torch launches" in lines[1]
    assert "exp_kernel" in lines[1]


RECORDINGS = """
from pcworker.kernels.cuda.torch_gpu import TorchGpu
gpu, tensors = TorchGpu(torch.device("cuda", 0)), torch.zeros(2, device="cuda")

def recorded(x, good_calls):
    def fails():
        nonlocal good_calls
        if not good_calls:
            raise ValueError("it fails")
        good_calls -= 1
    try:
        with gpu.stream():
            gpu.recorded([lambda: x.fill_(1), fails])
    except ValueError as error:
        print(error)
    gpu.wait()
    with gpu.stream():
        print(x.item())

recorded(tensors[0], 0)
recorded(tensors[1], 1)
"""


def test_a_recording_that_fails_is_joined(runtime: Path) -> None:
    """When the memory of a failed recording is used again, no other stream still works there. The
    work fails once before the capture and once in it, and its error is the one that is told."""
    assert said(runtime, RECORDINGS) == ["it fails", "1.0"] * 2


def test_no_garbage_is_collected_in_a_capture(runtime: Path) -> None:
    """Garbage may hold another graph, and a capture fails when a graph is destroyed meanwhile."""
    program = """
import gc
import weakref
from pcworker.kernels.cuda.torch_gpu import TorchGpu
gpu, x = TorchGpu(torch.device("cuda", 0)), torch.zeros(1, device="cuda")
class Left: pass

def a_graph():
    left = Left()
    left.graph, left.itself = gpu.recorded([lambda: x.fill_(1)]), left
    weakref.finalize(left, print, "the graph is gone")
    return left

def makes_garbage():
    if torch.cuda.is_current_stream_capturing():
        left.clear()
        if gc.isenabled(): gc.collect()  # Python does so whenever it likes
        print("it is captured")
    x.fill_(2)

with gpu.stream():
    left = [a_graph()]
    gpu.recorded([makes_garbage])()
    print(x.item())
gc.collect()
"""
    assert said(runtime, program) == ["it is captured", "2.0", "the graph is gone"]


def test_a_stream_may_be_joined_twice(runtime: Path) -> None:
    """A stream is joined twice where more networks are recorded than torch has streams."""
    program = """
from pcworker.kernels.cuda.torch_gpu import TorchGpu
gpu, tensors = TorchGpu(torch.device("cuda", 0)), torch.zeros(40, device="cuda")
with gpu.stream():
    again = gpu.recorded([lambda x=x: x.fill_(1) for x in tensors])
    tensors.zero_()
    again()
    print(tensors.tolist() == [1] * 40)
"""
    assert said(runtime, program) == ["True"]


def test_memory_is_free_when_nobody_has_it(runtime: Path) -> None:
    """Work that the CPU does in place of a kernel keeps no tensor, so that a tensor that is freed
    too early is seen."""
    program = """
x = torch.zeros(4, device="cuda")
x.ne(0).sum(0).item()
del x
print(torch.cuda.memory_allocated())
"""
    assert said(runtime, program) == ["0"]


def test_a_full_gpu_is_told_in_one_line(runtime: Path) -> None:
    program = """
from pcworker.machine import device
from pcworker.errors import InputError
device._require_free_memory.retry.stop = lambda state: True
try: device.prepare_device("cuda", gpus=1, cpus=1)
except InputError as error: print(error)
"""
    assert said(runtime, program, EMULATED_MEMORY=str(500 * 2**20)) == [
        "Emulated GPU has 500 of 500 MiB free, and a worker needs 1024; end what else uses it, or "
        "let fewer workers share it by a larger --gpus-per-worker"
    ]


def test_a_launch_with_too_much_shared_memory_is_told_in_one_line(runtime: Path) -> None:
    program = """
from pcworker.kernels.cuda.launch import SAMPLES_CU
from pcworker.kernels.cuda.nvrtc import CudaError
from pcworker.kernels.cuda.torch_gpu import TorchGpu
gpu = TorchGpu(torch.device("cuda", 0))
code = gpu.program(SAMPLES_CU, [])
try: code.launch("train_phases", 1, 32, gpu.shared_bytes + 1, [0])
except CudaError as error: print(error)
"""
    assert said(runtime, program) == [
        "the GPU's driver refuses cuFuncSetAttribute: cudaErrorInvalidValue, invalid argument"
    ]


@pytest.mark.long
def test_the_benchmark_of_a_gpu_leaves_nothing_out(runtime: Path) -> None:
    """Every contender is timed as a CUDA graph, too. torch refuses to record an update whose
    gradients were first added up in the default stream, so each recording has a new network."""
    program = """
from jobs.gpu_speed import timed
from pcworker.data.dataset import DataSet
timed.UPDATES = 2
data = DataSet(timed.drawn_digits(60, 20), torch.device("cuda", 0))
print(*timed.time_backprop(data, "784-32-10"), *timed.time_stack(data, "784-32-10", 2))
"""
    lines = said(runtime, program, EMULATED_KERNELS="all")
    assert lines == ["fixed_3_seeds_us torch_us graph_us torch_us graph_us"]
