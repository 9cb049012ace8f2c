"""Decides whether trials may be stacked: a trial's bits must not depend on its neighbours.

Batched products and vectorised functions give the bits of a lone trial for the paper's shapes, on
the machines that we tried, but nothing promises it elsewhere. A sigmoid computes the end of a
buffer by other code. With several threads a buffer has several ends. A batched product of small or
odd matrices may add in another order. The differences are rare and in the last bit, so that a trial
run is not enough to find them. On a CPU the shape decides first. A probe of what the shard is about
to do is the second net.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch

from pcworker.kernels.kernel import Packing
from pcworker.kernels.probe import Probe, equal_bits
from pcworker.kernels.stack import Stack
from pcworker.machine.processor import VECTOR
from pcworker.trials.configuration import Configuration
from pcworker.trials.trial import Trial

ALIGNMENT = 16
"""Bytes. This was found by trying: with odd batches of 10 float32 outputs most updates differ."""
SMALL_PRODUCT = 400
"""The number of multiplications below which torch.bmm does not call the library that torch.mm
calls."""


def choose_packing(trials: Sequence[Trial], probe: Probe) -> Packing:
    """How to run trials that share a `stack_key`."""
    if not _repeats(trials[0], probe):
        return "irreproducible"
    fits = probe.device.type != "cpu" or shape_allows_stacks(trials[0].configuration, probe.samples)
    return "stacked" if fits and stack_keeps_bits(trials, probe) else "alone"


def shape_allows_stacks(config: Configuration, samples: int) -> bool:
    """True if a stack of this shape is known to give the bits of lone trials on a CPU.

    That takes one thread, hidden widths of whole vectors, matrices of every trial that are as well
    aligned as a lone one's, and no product so small that torch has other code for it. It has to
    hold for full batches and for the last one of an epoch.
    """
    sizes = {min(config.batch_size, samples), samples % config.batch_size or config.batch_size}
    itemsize = 4 if config.dtype == "float32" else 8
    layers = list(pairwise(config.widths))
    vectors = all(n % VECTOR == 0 for n in config.widths[1:-1])
    aligned = all(n * m * itemsize % ALIGNMENT == 0 for n, m in layers)
    return (
        torch.get_num_threads() == 1
        and vectors
        and aligned
        and all(
            config.widths[0] * batch * itemsize % ALIGNMENT == 0
            and all(batch * n * m >= SMALL_PRODUCT for n, m in layers)
            for batch in sizes
        )
    )


def stack_keeps_bits(trials: Sequence[Trial], probe: Probe) -> bool:
    """True if the probe's updates give each trial the same bits in the stack and alone.

    Everything that is computed on the way is compared, because the last bit of a change may be lost
    when it is added to a weight.
    """
    stack = Stack(trials, probe.device)
    alone = [Stack([trial], probe.device) for trial in stack.trials]
    for k in range(len(probe.batches[trials[0].seed])):
        now = {seed: each[k] for seed, each in probe.batches.items()}
        for network in (stack, *alone):
            network.update(now, probe.rate)
        for place, lone in enumerate(alone):
            if not equal_bits(stack.everything(place), lone.everything(0)):
                return False
    return True


def _repeats(trial: Trial, probe: Probe) -> bool:
    """True if a lone trial has the same bits when it is trained again."""
    first, second = Stack([trial], probe.device), Stack([trial], probe.device)
    for batch in probe.batches[trial.seed]:
        first.update({trial.seed: batch}, probe.rate)
        second.update({trial.seed: batch}, probe.rate)
    return equal_bits(first.everything(0), second.everything(0))
