"""A few updates with which a kernel is tried before it is used, and how their bits are compared."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from pcworker.data.batches import Batch

PROBE_UPDATES = 6
"""The number of full minibatches in a probe."""


@dataclass(frozen=True, eq=False)
class Probe:
    """Minibatches to try a kernel on, and the numbers that say what the training will be like."""

    batches: Mapping[int, Sequence[Batch]]
    """The minibatches by seed. They have every size that an epoch's minibatches have."""
    samples: int
    """The number of images in the training set."""
    tests: int
    """The number of images in the test set."""
    rate: float
    """The learning rate of an update that sums over a full batch."""
    device: torch.device


def probe_batches(batches: Iterable[Batch], last_size: int) -> list[Batch]:
    """The first few of an epoch's minibatches, and one cut to the size of the epoch's last one."""
    first = list(islice(batches, PROBE_UPDATES))
    inputs, targets, noise = first[0]
    last = Batch(inputs[:last_size], targets[:last_size], [normal[:last_size] for normal in noise])
    return [*first, last]


def equal_bits(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> bool:
    """True if all bits are equal, NaNs included, where +0.0 equals -0.0.

    `mm` and `bmm` differ in the sign of a zero, which never changes a later sum or product.
    """
    return all(torch.equal(_bits(a), _bits(b)) for a, b in zip(ours, theirs, strict=True))


def _bits(values: Tensor) -> Tensor:
    positive = values + 0.0  # -0.0 becomes 0.0
    return positive.contiguous().view(torch.int32 if values.dtype == torch.float32 else torch.int64)
