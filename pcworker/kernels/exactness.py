"""Whether a device does what every result of this project rests on, tried with made-up digits.

One network stands for all: what a shard's own shapes need, its worker tries before it trains.
"""

import socket
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pcworker.data.batches import Batch
from pcworker.data.randomness import generator
from pcworker.equations.rules import IL, Z_IL
from pcworker.errors import InputError
from pcworker.kernels.backprop import Backprop
from pcworker.kernels.fused.agreement import choose_fused
from pcworker.kernels.packing import PROBE_UPDATES, choose_packing, equal_bits, probe_batches
from pcworker.kernels.stack import Stack
from pcworker.machine.device import device_name
from pcworker.trials.configuration import Configuration, configuration
from pcworker.trials.trial import Trial

TRIED_NETWORK = "784-32-32-10"
_SEED = 0
_SAMPLES = 60_000
_TESTS = 100
"""Of the test set that there is not; `fused.c` wants to know how many."""


@dataclass(frozen=True)
class Exactness:
    """What was found on a device."""

    exact: bool
    """Whether Z-IL's weights are those of torch.autograd and torch.optim.SGD, bit for bit."""
    packing: str
    """`pcworker.kernels.packing.Packing`: whether trials may be trained together."""
    kernel: str
    """What trains: "fused.c" or "torch"."""


def try_exactness(device: torch.device) -> Exactness:
    """Makes a few updates in every way, in about 0.1 s. `prepare_device` comes first."""
    zil = Trial(configuration(network=TRIED_NETWORK, rule=Z_IL.name), _SEED)
    others = [
        Trial(configuration(network=TRIED_NETWORK, rule=IL.name, t=3, gamma=0.5), _SEED),
        zil.twin,
    ]
    batches = {_SEED: made_up_batches(zil.configuration, device)}
    rate = zil.configuration.alpha
    stacked = [zil, others[0]]
    packing = choose_packing(stacked, batches, _SAMPLES, rate, device)
    fused = choose_fused([zil, *others], batches, _SAMPLES, rate, device, _TESTS)
    exact = learns_as_backprop(zil, batches[_SEED], rate, device)
    return Exactness(exact, packing, "torch" if fused is None else "fused.c")


def require_exact(device: torch.device) -> None:
    """InputError where a device is not exact, or a trial does not repeat itself there."""
    found = try_exactness(device)
    if not found.exact:
        trouble = "Z-IL's weights are not those of torch.autograd"
    elif found.packing == "irreproducible":
        trouble = "a trial does not repeat itself"
    else:
        return
    raise InputError(
        f"{trouble} on {device_name(device)} of {socket.gethostname()}; take that machine out, or "
        "install another build of torch there; --no-preflight runs anyway"
    )


def learns_as_backprop(
    trial: Trial, batches: Sequence[Batch], rate: float, device: torch.device
) -> bool:
    """Whether a trial's weights have, after each of these updates, the bits of its BP twin's."""
    stack, backprop = Stack([trial], device), Backprop(trial.twin, device)
    for batch in batches:
        stack.update({trial.seed: batch}, rate)
        backprop.update(batch, rate)
        ours = [p for layer in stack.parameters(0) for p in layer]
        if not equal_bits(ours, [p for layer in backprop.parameters() for p in layer]):
            return False
    return True


def made_up_batches(config: Configuration, device: torch.device) -> list[Batch]:
    """Minibatches of random pixels and labels, of the sizes that an epoch has."""
    source, size = generator(_SEED, "exactness"), config.batch_size
    classes = config.widths[0]

    def batch() -> Batch:
        inputs = torch.rand(size, config.widths[-1], generator=source)
        labels = torch.randint(classes, (size,), generator=source)
        targets = torch.nn.functional.one_hot(labels, classes).to(inputs.dtype)
        return Batch(inputs.to(device), targets.to(device), [])

    return probe_batches((batch() for _ in range(PROBE_UPDATES)), _SAMPLES % size or size)
