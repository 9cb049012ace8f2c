"""Trains shards on torch's GPU, and says whether they have the results of the CPU.

It is run as a program, in an environment of `emulated_runtime`. Its argument is what is left out,
of `LEFT_OUT`, so that it can be seen whether that is noticed, or "nothing".
"""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from whole_shards import NETWORKS, digits, trained, trials

from pcworker.data.dataset import DataSet
from pcworker.kernels.cuda import kernel as cuda_kernel
from pcworker.kernels.cuda.gpu import Gpu
from pcworker.kernels.cuda.kernel import CudaKernel
from pcworker.kernels.cuda.torch_gpu import TorchGpu
from pcworker.kernels.fixed.kernel import FixedKernel
from pcworker.kernels.kernel import Task

SAMPLES = 70


def _after(gpu: TorchGpu, other: Gpu) -> None:
    """Does not let one stream wait for another."""


@contextmanager
def _stream(gpu: TorchGpu) -> Iterator[None]:
    """Does not wait for what was done outside."""
    with torch.cuda.stream(gpu._stream):
        yield


def _mark(gpu: TorchGpu) -> Callable[[], None]:
    """Does not wait for what is in the stream."""
    return lambda: None


LEFT_OUT = {
    "a stream waits for another": ("after", _after),
    "a stream waits for what was done outside": ("stream", _stream),
    "what was found is read when it is there": ("mark", _mark),
}


def same(common: dict[str, object]) -> bool:
    """Whether the GPU's results of a shard are those of the CPU."""
    found = []
    for device in (torch.device("cuda", 0), torch.device("cpu")):
        task = Task(DataSet(digits(SAMPLES), device), trials(common))
        on_gpu = device.type == "cuda"
        kernel = CudaKernel(task, TorchGpu(device)) if on_gpu else FixedKernel(task)
        found.append(trained(kernel, list(task.trials), SAMPLES))
    return found[0] == found[1]


def main(left_out: str) -> None:
    """Prints a line for each shard. Two are trained at the same time."""
    if left_out in LEFT_OUT:
        setattr(TorchGpu, *LEFT_OUT[left_out])
    cuda_kernel.MOST_UPDATES = 2  # an epoch is several launches
    together = NETWORKS[1:2] if left_out in LEFT_OUT else NETWORKS[:2]
    threads = [threading.Thread(target=lambda n=n: print(same(n))) for n in together]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(sys.argv[1])
