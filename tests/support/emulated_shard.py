"""A small shard that is trained on the emulated GPU, to see what a barrier is for."""

from pathlib import Path

import numpy as np
import torch
from emulated_device import EmulatedDevice

from pcworker.data.dataset import DataSet
from pcworker.data.mnist import Digits
from pcworker.kernels.cuda.kernel import CudaKernel
from pcworker.kernels.cuda.launch import SAMPLES_CU
from pcworker.kernels.fixed.kernel import FixedKernel
from pcworker.kernels.kernel import Kernel, Task
from pcworker.trials.configuration import configuration
from pcworker.trials.digests import network_digest
from pcworker.trials.measures import to_numpy
from pcworker.trials.trial import Trial

NETWORK, PIXELS, BATCH = "150-9-8-5", 150, 9


def results_of(kernel: Kernel) -> list[object]:
    """What is found to be not finite in an epoch, and the digests and test errors after it."""
    looks = list(kernel.train_epoch(1))
    lost = {trial for look in looks for trial in look.nonfinite}
    return [looks[-1].nonfinite] + [
        (network_digest(to_numpy(network.parameters())), kernel.test_error(trial))
        for trial, network in kernel.networks.items()
        if trial not in lost
    ]


def shard() -> Task:
    """Trials of every rule but BP, which `samples.cu` trains for their copies of a twin."""
    random = np.random.default_rng(5)
    shown, drawn = random.random((60, PIXELS)) < 0.4, random.integers(1, 256, (60, PIXELS))
    images, labels = np.where(shown, drawn, 0), random.integers(5, size=60)
    train, test = slice(40), slice(40, None)
    parts = (images[train], labels[train], images[test], labels[test])
    digits = Digits(*(part.astype(np.uint8) for part in parts))
    common = {"network": NETWORK, "batch_size": BATCH, "alpha": 0.05, "bias": True}
    cells = [
        {"rule": "IL", "t": 4, "gamma": 0.5, "sigma": 0.1},
        {"rule": "Z-IL"},
        {"rule": "Fa-Z-IL"},
        {"rule": "IL", "t": 6, "gamma": 1e8},  # it does not stay finite
    ]
    trials = [Trial(configuration(**common, **cell), 3) for cell in cells]  # type: ignore[arg-type]
    return Task(DataSet(digits, torch.device("cpu")), trials)


def on_the_emulator(
    order: str = "ascending", samples_cu: Path = SAMPLES_CU, flags: tuple[str, ...] = ()
) -> list[object]:
    """The results of the shard on an emulated GPU."""
    device = EmulatedDevice(order, samples_cu=samples_cu, flags=flags)
    return results_of(CudaKernel(shard(), device))


def on_the_cpu() -> list[object]:
    """The results of the shard by the kernel of the CPU."""
    return results_of(FixedKernel(shard()))
