"""Whether trials may be stacked: a trial's bits must not depend on its neighbours.

Batched products and vectorised functions give the bits of a lone trial for the paper's shapes on
the machines that we tried, but nothing promises it elsewhere: a sigmoid, for one, computes the end
of a buffer by other code. So each shard is probed before it starts, by what it is about to do.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Literal

import torch
from torch import Tensor

from pcworker.batches import Batch
from pcworker.config import Trial
from pcworker.stack import Stack

Packing = Literal["stacked", "alone", "irreproducible"]
PROBE_UPDATES = 6


def probe(
    trials: Sequence[Trial],
    batches: Mapping[int, Sequence[Batch]],
    rate: float,
    device: torch.device,
) -> Packing:
    """How these trials must be run so that each has a result of its own.

    Trains the stack, and then each trial alone, on the same few batches of each seed:

        stacked         every trial has the same bits either way
        alone           some trial has not: run them one by one
        irreproducible  a lone trial does not even repeat itself
    """
    stack = _trained(trials, batches, rate, device)
    verdict: Packing = "stacked"
    for place, trial in enumerate(stack.trials):
        alone = _trained([trial], batches, rate, device)
        if _equal(stack.parameters(place), alone.parameters(0)):
            continue
        again = _trained([trial], batches, rate, device)
        if not _equal(alone.parameters(0), again.parameters(0)):
            return "irreproducible"
        verdict = "alone"
    return verdict


def probe_batches(batches: Iterable[Batch], last_size: int) -> list[Batch]:
    """The first few batches, and one cut to the size of the epoch's last batch."""
    first = list(islice(batches, PROBE_UPDATES))
    inputs, targets, noise = first[0]
    last = Batch(inputs[:last_size], targets[:last_size], [normal[:last_size] for normal in noise])
    return [*first, last]


def _trained(
    trials: Sequence[Trial],
    batches: Mapping[int, Sequence[Batch]],
    rate: float,
    device: torch.device,
) -> Stack:
    stack = Stack(trials, device)
    for k in range(len(batches[trials[0].seed])):
        now = {seed: batches[seed][k] for seed in stack.seeds}
        stack.update(now, rate)
    return stack


def _equal(ours: Sequence[Sequence[Tensor]], theirs: Sequence[Sequence[Tensor]]) -> bool:
    """Bit for bit, NaNs included."""
    pairs = [(a, b) for x, y in zip(ours, theirs, strict=True) for a, b in zip(x, y, strict=True)]
    return all(torch.equal(_bits(a), _bits(b)) for a, b in pairs)


def _bits(values: Tensor) -> Tensor:
    return values.contiguous().view(torch.int32 if values.dtype == torch.float32 else torch.int64)
