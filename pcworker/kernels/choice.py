"""Chooses the kernel that trains a shard. This is the one place that lists the kernels."""

from collections.abc import Callable

from pcworker.kernels.fused.kernel import fused_kernel
from pcworker.kernels.kernel import Kernel, Task
from pcworker.kernels.probe import Probe
from pcworker.kernels.torch_operations import TorchKernel

KERNELS: tuple[Callable[[Task, Probe], Kernel | None], ...] = (fused_kernel, TorchKernel)
"""The kernels, best first. Each builds itself for a task, or gives None if it may not be used for
it. A kernel may be used where it gives the bits of the last one, which takes every task."""


def choose(task: Task) -> Kernel:
    """The first kernel that may be used for this task."""
    probe = task.probe()
    return next(kernel for build in KERNELS if (kernel := build(task, probe)))
