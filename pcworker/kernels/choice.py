"""Chooses the kernel that trains a shard. This is the one place that lists the kernels."""

from collections.abc import Callable

import torch

from pcworker.errors import InputError
from pcworker.kernels.backprop import Backprop
from pcworker.kernels.cuda.kernel import CudaKernel
from pcworker.kernels.cuda.torch_gpu import TorchGpu
from pcworker.kernels.fixed.kernel import FixedKernel
from pcworker.kernels.fixed.reference import FixedBackprop
from pcworker.kernels.fused.kernel import fused_kernel
from pcworker.kernels.kernel import Kernel, Task
from pcworker.kernels.probe import Probe
from pcworker.kernels.torch_operations import TorchKernel
from pcworker.trials.trial import Trial

KERNELS: tuple[Callable[[Task, Probe], Kernel | None], ...] = (fused_kernel, TorchKernel)
"""The kernels for the sums "library", best first. Each builds itself for a task, or gives None if
it may not be used for it. A kernel may be used where it gives the bits of the last one, which takes
every task."""

Reference = Backprop | FixedBackprop
"""Backpropagation by torch.autograd, of one trial."""


def reference(trial: Trial, device: torch.device) -> Reference:
    """The reference in the sums of a BP trial.

    Raises InputError if there is none on the device: there a task's kernel has one of its own.
    """
    if trial.configuration.sums == "fixed":
        if device.type != "cpu":
            raise InputError(
                f"sums fixed: this experiment has no kernel for {device.type}; leave out "
                "--gpus-per-worker and --device, so that CPU cores train, or give --sums library"
            )
        return FixedBackprop(trial)
    return Backprop(trial, device)


def choose(task: Task) -> Kernel:
    """The first kernel that may be used for this task. Raises InputError if there is none."""
    device = task.data.device
    if task.config.sums == "fixed":
        return FixedKernel(task) if device.type == "cpu" else CudaKernel(task, TorchGpu(device))
    probe = task.probe()
    return next(kernel for build in KERNELS if (kernel := build(task, probe)))
