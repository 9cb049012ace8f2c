"""Whether trials may be stacked: a trial's bits must not depend on its neighbours.

Batched products and vectorised functions give the bits of a lone trial for the paper's shapes on
the machines that we tried, but nothing promises it elsewhere. A sigmoid computes the end of a
buffer by other code; with several threads a buffer has several ends; a batched product of small or
odd matrices may add in another order. The differences are rare and in the last bit, so that trying
is not enough to find them: on a CPU the shape decides first, and a probe of what the shard is about
to do is the second net.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice, pairwise
from typing import Literal

import torch
from torch import Tensor

from pcworker.data.batches import Batch
from pcworker.kernels.fused.shape import VECTOR
from pcworker.kernels.stack import Stack
from pcworker.trials.configuration import Configuration
from pcworker.trials.trial import Trial

Packing = Literal["stacked", "alone", "irreproducible"]
"""How trials are run so that each has a result of its own:

stacked         together: every trial has the bits that it has alone
alone           one by one: in a stack some trial has, or might have, other bits
irreproducible  one by one, and even so a trial does not repeat itself
"""

PROBE_UPDATES = 6
ALIGNMENT = 16
"""Bytes. Found by trying: with odd batches of 10 float32 outputs most updates differ."""
SMALL_PRODUCT = 400
"""Multiplications below which torch.bmm does not call the library that torch.mm calls."""


def choose_packing(
    trials: Sequence[Trial],
    batches: Mapping[int, Sequence[Batch]],
    samples: int,
    rate: float,
    device: torch.device,
) -> Packing:
    """How to run trials that share a `stack_key`; `batches`, by seed, are for the probe."""
    if not _repeats(trials[0], batches, rate, device):
        return "irreproducible"
    fits = device.type != "cpu" or shape_allows_stacks(trials[0].configuration, samples)
    return "stacked" if fits and _probe(trials, batches, rate, device) else "alone"


def shape_allows_stacks(config: Configuration, samples: int) -> bool:
    """Whether a stack is known to give the bits of lone trials on a CPU, by its shape: one thread;
    hidden widths of whole vectors; every trial's matrices as well aligned as a lone one's; no
    product so small that torch has other code for it. In the full batches and in the last one."""
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


def probe_batches(batches: Iterable[Batch], last_size: int) -> list[Batch]:
    """The first few batches, and one cut to the size of the epoch's last batch."""
    first = list(islice(batches, PROBE_UPDATES))
    inputs, targets, noise = first[0]
    last = Batch(inputs[:last_size], targets[:last_size], [normal[:last_size] for normal in noise])
    return [*first, last]


def _probe(
    trials: Sequence[Trial],
    batches: Mapping[int, Sequence[Batch]],
    rate: float,
    device: torch.device,
) -> bool:
    """Whether a few updates give each trial the same bits in the stack and alone, in all that is
    computed on the way: a last bit of a change may be lost when it is added to a weight."""
    stack = Stack(trials, device)
    alone = [Stack([trial], device) for trial in stack.trials]
    for k in range(len(batches[trials[0].seed])):
        now = {seed: each[k] for seed, each in batches.items()}
        for network in (stack, *alone):
            network.update(now, rate)
        for place, lone in enumerate(alone):
            if not equal_bits(stack.everything(place), lone.everything(0)):
                return False
    return True


def _repeats(
    trial: Trial, batches: Mapping[int, Sequence[Batch]], rate: float, device: torch.device
) -> bool:
    """Whether a lone trial has the same bits when it is trained again."""
    first, second = Stack([trial], device), Stack([trial], device)
    for batch in batches[trial.seed]:
        first.update({trial.seed: batch}, rate)
        second.update({trial.seed: batch}, rate)
    return equal_bits(first.everything(0), second.everything(0))


def equal_bits(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> bool:
    """Bit for bit, NaNs included, but for the sign of a zero: no sum or product turns that into
    another value, and products of one trial and of many do differ in it."""
    return all(torch.equal(_bits(a), _bits(b)) for a, b in zip(ours, theirs, strict=True))


def _bits(values: Tensor) -> Tensor:
    positive = values + 0.0  # -0.0 becomes 0.0
    return positive.contiguous().view(torch.int32 if values.dtype == torch.float32 else torch.int64)
