"""Decides whether `fused.c` may train a shard: only if it gives the bits that torch gives.

The shape decides first, as in `pcworker.kernels.packing`. Then the order in which torch's library
adds up each product is found by trying. Then every trial of the shard makes a few updates both
ways, and everything that is computed on the way is compared.
"""

from collections.abc import Sequence

import torch

from pcworker.data.batches import Batch, Chunk
from pcworker.data.generators import generator
from pcworker.equations.rules import RULES
from pcworker.kernels.backprop import Backprop
from pcworker.kernels.fused import library
from pcworker.kernels.fused.gathered import Gathered
from pcworker.kernels.fused.library import Orders
from pcworker.kernels.fused.shape import fused_knows
from pcworker.kernels.fused.trial import FusedTrial
from pcworker.kernels.packing import shape_allows_stacks
from pcworker.kernels.probe import Probe, equal_bits
from pcworker.kernels.stack import Stack
from pcworker.trials.configuration import Configuration
from pcworker.trials.trial import Trial

BLOCKS = (512, 384, 352, 336, 320, 256, 240, 192, 160, 128, 96, 64)
"""The numbers of pixels that are tried as a block of the input layer's sums, after one block of all
pixels."""


def choose_fused(trials: Sequence[Trial], probe: Probe) -> Orders | None:
    """The orders with which `fused.c` may train these trials and the twins of their seeds.

    None means that it may not train them.
    """
    config = trials[0].configuration
    supported = (
        probe.device.type == "cpu"
        and all(fused_knows(trial.configuration) for trial in trials)
        and shape_allows_stacks(config, probe.samples)
    )
    if not supported or library.load() is None:
        return None
    sizes = {len(batch.inputs) for batch in next(iter(probe.batches.values()))}
    orders = find_orders(config, sizes | {probe.tests})
    if orders is None:
        return None
    twins = dict.fromkeys(trial.twin for trial in trials)
    return orders if all(_agrees(t, orders, probe) for t in [*trials, *twins]) else None


@torch.no_grad()
def find_orders(config: Configuration, batch_sizes: set[int]) -> Orders | None:
    """The orders in which torch's products add up, for these batch sizes.

    None means that `fused.c` does not know one of them.
    """
    above = config.l_max - 1
    pixels = config.widths[-1]
    plain = (library.BY_FMA,) * above
    blocks = [pixels, *(block for block in BLOCKS if block < pixels)]
    block = next((b for b in blocks if _fits(config, Orders(b, plain), above, batch_sizes)), None)
    if block is None:
        return None
    known = [library.BY_FMA, library.BY_LANES, *([library.BY_LIBRARY] if library.gemm() else [])]
    found: list[int] = []
    for l in range(above):
        candidates = [(*found, order, *plain[l + 1 :]) for order in known]
        fitting = [c for c in candidates if _fits(config, Orders(block, c), l, batch_sizes)]
        if not fitting:
            return None
        found.append(fitting[0][l])
    return Orders(block, tuple(found))


def _fits(config: Configuration, orders: Orders, l: int, batch_sizes: set[int]) -> bool:
    """True if mu^l has torch's bits with these orders, for some made-up f(x^{l+1})."""
    only = (("predict", l),)
    trial = FusedTrial(Trial(config, 0), orders, batch=max(batch_sizes), only=only)
    source = generator(0, "orders")
    theta = trial.parameters()[l][0].contiguous()
    for size in sorted(batch_sizes):
        fx = torch.rand(size, config.widths[l + 1], generator=source)
        inputs = fx if l == config.l_max - 1 else torch.zeros(size, config.widths[-1])
        if inputs is not fx:
            trial.see(l + 1, fx)
        nothing = torch.zeros(size, config.widths[0])
        trial.train(_gathered(Batch(inputs, nothing, []), orders), 0.0)
        if not equal_bits([trial.prediction(l, size)], [torch.mm(fx, theta.t())]):
            return False
    return True


def _agrees(trial: Trial, orders: Orders, probe: Probe) -> bool:
    """True if the trial has the same bits by `fused.c` as by torch."""
    agrees = _agrees_with_stack if RULES[trial.configuration.rule].infers else _agrees_with_autograd
    return agrees(trial, orders, probe)


def _agrees_with_stack(trial: Trial, orders: Orders, probe: Probe) -> bool:
    """True if everything that an update computes has the bits of a stack of this trial alone."""
    ours, theirs = FusedTrial(trial, orders), Stack([trial], probe.device)
    for batch in probe.batches[trial.seed]:
        ours.train(_gathered(batch, orders), probe.rate)
        theirs.update({trial.seed: batch}, probe.rate)
        if not all(theirs.finite()):
            return not ours.finite()  # neither is trained any further
        if not equal_bits(ours.everything(len(batch.inputs)), theirs.everything(0)):
            return False
    return True


def _agrees_with_autograd(twin: Trial, orders: Orders, probe: Probe) -> bool:
    """True if the parameters of a BP trial have autograd's bits after each update."""
    ours, theirs = FusedTrial(twin, orders), Backprop(twin, probe.device)
    for batch in probe.batches[twin.seed]:
        ours.train(_gathered(batch, orders), probe.rate)
        theirs.update(batch, probe.rate)
        if not theirs.finite():
            return not ours.finite()
        mine, reference = (
            [p for layer in network.parameters() for p in layer] for network in (ours, theirs)
        )
        if not equal_bits(mine, reference):
            return False
    return True


def _gathered(batch: Batch, orders: Orders) -> Gathered:
    noise = [normal.unsqueeze(0) for normal in batch.noise]
    chunk = Chunk(batch.inputs.unsqueeze(0), batch.targets.unsqueeze(0), noise)
    return Gathered(chunk, orders.block)
