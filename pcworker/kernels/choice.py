"""Chooses the kernel that trains a shard. This is the one place that lists the kernels."""

from collections.abc import Callable

import torch

from pcworker.kernels.backprop import Backprop
from pcworker.kernels.fixed.kernel import FixedKernel, require_cpu
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
    """The reference in the sums of a BP trial. Raises InputError if there is none on the device."""
    if trial.configuration.sums == "fixed":
        require_cpu(device)
        return FixedBackprop(trial)
    return Backprop(trial, device)


def choose(task: Task) -> Kernel:
    """The first kernel that may be used for this task. Raises InputError if there is none."""
    if task.config.sums == "fixed":
        return FixedKernel(task)
    probe = task.probe()
    return next(kernel for build in KERNELS if (kernel := build(task, probe)))
