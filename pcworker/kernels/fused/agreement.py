"""Whether `fused.c` may train a shard's trials: only where it gives the bits that torch gives.

The shape decides first, as in `pcworker.kernels.packing`. Then the order in which the library adds
up each product is found by trying; then every trial of the shard makes a few updates both ways, and
all that is computed on the way is compared.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from pcworker.data.batches import Batch, Chunk
from pcworker.data.randomness import generator
from pcworker.equations.rules import RULES
from pcworker.kernels.backprop import Backprop
from pcworker.kernels.fused import library
from pcworker.kernels.fused.shape import fused_knows
from pcworker.kernels.fused.trial import FusedTrial, Gathered, Orders
from pcworker.kernels.packing import equal_bits, shape_allows_stacks
from pcworker.kernels.stack import Stack
from pcworker.trials.configuration import Configuration
from pcworker.trials.trial import Trial

BLOCKS = (512, 384, 352, 336, 320, 256, 240, 192, 160, 128, 96, 64)
"""Tried for the input layer's sums, after one block of all pixels."""


def choose_fused(
    trials: Sequence[Trial],
    batches: Mapping[int, Sequence[Batch]],
    samples: int,
    rate: float,
    device: torch.device,
    tests: int,
) -> Orders | None:
    """How to train these trials, and the twins of their seeds, by `fused.c`; None: not at all.

    batches  by seed: some to try with, of every size that the data set has
    tests    images in the test set
    """
    config = trials[0].configuration
    supported = (
        device.type == "cpu"
        and all(fused_knows(trial.configuration) for trial in trials)
        and shape_allows_stacks(config, samples)
    )
    if not supported or library.load() is None:
        return None
    sizes = {len(batch.inputs) for batch in next(iter(batches.values()))}
    orders = find_orders(config, sizes | {tests})
    if orders is None:
        return None
    twins = dict.fromkeys(trial.twin for trial in trials)
    same = all(_agrees(t, orders, batches[t.seed], rate) for t in [*trials, *twins])
    return orders if same else None


@torch.no_grad()
def find_orders(config: Configuration, batch_sizes: set[int]) -> Orders | None:
    """In which order torch's products add up, for these batch sizes; None: in one that `fused.c`
    does not know."""
    above = config.l_max - 1
    pixels = config.widths[-1]
    plain = (library.BY_FMA,) * above
    blocks = [pixels, *(block for block in BLOCKS if block < pixels)]
    block = next((b for b in blocks if _fits(config, Orders(b, plain), above, batch_sizes)), None)
    if block is None:
        return None
    found: list[int] = []
    for l in range(above):
        known = [
            library.BY_FMA,
            library.BY_LANES,
            *([library.BY_LIBRARY] if library.gemm() else []),
        ]
        candidates = [(*found, order, *plain[l + 1 :]) for order in known]
        fitting = [c for c in candidates if _fits(config, Orders(block, c), l, batch_sizes)]
        if not fitting:
            return None
        found.append(fitting[0][l])
    return Orders(block, tuple(found))


def _fits(config: Configuration, orders: Orders, l: int, batch_sizes: set[int]) -> bool:
    """Whether mu^l has torch's bits, for some made-up f(x^{l+1})."""
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
        trial.train(Gathered(_chunk(Batch(inputs, nothing, [])), orders.block), 0.0)
        if not equal_bits([trial.prediction(l, size)], [torch.mm(fx, theta.t())]):
            return False
    return True


def _agrees(trial: Trial, orders: Orders, batches: Sequence[Batch], rate: float) -> bool:
    """Whether a trial has the same bits by `fused.c` as without."""
    ours = FusedTrial(trial, orders)
    infers = RULES[trial.configuration.rule].infers
    theirs = Stack([trial], torch.device("cpu")) if infers else Backprop(trial, torch.device("cpu"))
    for batch in batches:
        ours.train(Gathered(_chunk(batch), orders.block), rate)
        if isinstance(theirs, Backprop):
            theirs.update(batch, rate)
            same = equal_bits(list(_flat(ours)), [p for l in theirs.parameters() for p in l])
        else:
            theirs.update({trial.seed: batch}, rate)
            same = equal_bits(ours.everything(len(batch.inputs)), theirs.everything(0))
        if not _finite(theirs):
            return not ours.finite()  # both leave
        if not same:
            return False
    return True


def _finite(network: Backprop | Stack) -> bool:
    return network.finite() if isinstance(network, Backprop) else all(network.finite())


def _flat(trial: FusedTrial) -> Iterator[Tensor]:
    return (p for layer in trial.parameters() for p in layer)


def _chunk(batch: Batch) -> Chunk:
    noise = [normal.unsqueeze(0) for normal in batch.noise]
    return Chunk(batch.inputs.unsqueeze(0), batch.targets.unsqueeze(0), noise)
