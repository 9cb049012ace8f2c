"""Tries on made-up digits whether a device computes exactly what all results rest on.

One network stands for all. What the shapes of a shard need, its worker tries before it trains.
"""

import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from pcworker.data.batches import Batch
from pcworker.data.dataset import DataSet
from pcworker.data.mnist import Digits
from pcworker.data.streams import Stream
from pcworker.equations.rules import IL, Z_IL
from pcworker.errors import InputError
from pcworker.kernels.backprop import Backprop
from pcworker.kernels.choice import choose
from pcworker.kernels.cuda.nvrtc import CudaError
from pcworker.kernels.fixed.reference import MAIN_MEMORY, FixedBackprop
from pcworker.kernels.fused.library import trouble
from pcworker.kernels.kernel import Task
from pcworker.kernels.packing import choose_packing
from pcworker.kernels.probe import PROBE_UPDATES, equal_bits
from pcworker.kernels.stack import Stack
from pcworker.machine.device import device_name
from pcworker.trials.configuration import configuration
from pcworker.trials.digests import network_digest
from pcworker.trials.measures import to_numpy
from pcworker.trials.trial import Trial

TRIED_NETWORK = "784-32-32-10"
_SEED = 0
_TESTS = 100


@dataclass(frozen=True)
class Exactness:
    """The findings on a device."""

    exact: bool
    """True if Z-IL's weights are those of torch.autograd in the same sums, bit for bit."""
    packing: str
    """How torch may run trials: a `pcworker.kernels.kernel.Packing`."""
    kernel: str
    """The name of the kernel that trains here."""
    kernel_trouble: str | None = None
    """Why a faster kernel does not train here although the user expects it. None: nothing is
    wrong."""


def try_exactness(device: torch.device, sums: str) -> Exactness:
    """Makes a few updates in every way, in about 0.1 s. Call `prepare_device` first.

    sums  "fixed" or "library", as in a configuration

    Raises InputError if there is no kernel for these sums on the device, or it cannot be built.
    """
    zil = Trial(configuration(network=TRIED_NETWORK, rule=Z_IL.name, sums=sums), _SEED)
    if sums == "fixed":
        return _try_fixed(zil, device)
    il = Trial(replace(zil.configuration, rule=IL.name, t=3, gamma=0.5), _SEED)
    task = Task(made_up_data(device), (zil, il, zil.twin))
    probe = task.probe()
    exact = learns_as_backprop(zil, probe.batches[_SEED], probe.rate, device)
    packing, kernel = choose_packing(task.inferring, probe), choose(task).name
    return Exactness(exact, packing, kernel, trouble() if device.type == "cpu" else None)


def require_exact(device: torch.device, sums: str) -> Exactness:
    """What is found on a device. Raises InputError if it is not exact, or if a trial does not
    repeat itself there."""
    found = try_exactness(device, sums)
    if not found.exact:
        trouble = "Z-IL's weights are not those of torch.autograd"
    elif found.packing == "irreproducible":
        trouble = "a trial does not repeat itself"
    else:
        return found
    raise InputError(
        f"{trouble} on {device_name(device)} of {socket.gethostname()}; take that machine out, or "
        "install another build of torch there; --no-preflight runs anyway"
    )


def learns_as_backprop(
    trial: Trial, batches: Sequence[Batch], rate: float, device: torch.device
) -> bool:
    """True if the trial's weights have the bits of its BP twin's after each of these updates."""
    stack, backprop = Stack([trial], device), Backprop(trial.twin, device)
    for batch in batches:
        stack.update({trial.seed: batch}, rate)
        backprop.update(batch, rate)
        ours = [p for layer in stack.parameters(0) for p in layer]
        if not equal_bits(ours, [p for layer in backprop.parameters() for p in layer]):
            return False
    return True


def _try_fixed(trial: Trial, device: torch.device) -> Exactness:
    """As `try_exactness`, for the sums "fixed". The reference is torch.autograd on the CPU, on a
    GPU too, so that a GPU has to have the CPU's bits."""
    try:
        task = Task(made_up_data(device), (trial, trial.twin))
        kernel = choose(task)
        for _ in kernel.train_epoch(1):
            pass
    except CudaError as error:
        raise InputError(f"{device_name(device)}: {error}") from None
    backprop = FixedBackprop(trial.twin)
    for chunk in made_up_data(MAIN_MEMORY).chunks(task.config, trial.seed, 1, noisy=False):
        backprop.train(chunk, task.config.rate(chunk.inputs.shape[1]))
    expected = to_numpy(backprop.parameters())
    exact = all(
        network_digest(to_numpy(network.parameters())) == network_digest(expected)
        for network in kernel.networks.values()
    )
    return Exactness(exact, "stacked", kernel.name)


def made_up_data(device: torch.device) -> DataSet:
    """Digits of random pixels and labels, as many as a probe takes."""
    source = Stream(_SEED, "exactness")
    samples = PROBE_UPDATES * configuration(rule=Z_IL.name).batch_size

    def draw(high: int, count: int) -> np.ndarray:
        return (source.integers(count) % np.uint64(high)).astype(np.uint8)

    images = [draw(256, count * 784).reshape(count, 784) for count in (samples, _TESTS)]
    labels = [draw(10, count) for count in (samples, _TESTS)]
    return DataSet(Digits(images[0], labels[0], images[1], labels[1]), device)
