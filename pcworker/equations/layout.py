"""The layout of a tensor in memory, on which the order of sums depends.

Autograd may hand an operation a gradient that is expanded (one number stands for many) or
transposed. The operation then adds up in another order than it would for a dense tensor of the same
values, and last bits differ. So an error must have the layout of what has arrived.
"""

import torch
from torch import Tensor


def laid_out(values: Tensor, like: Tensor) -> Tensor:
    """The values in the layout of a tensor of the same shape. If they are not constant where that
    is expanded, they stay as they are."""
    if values.stride() == like.stride():
        return values
    narrow = values
    for dimension in range(values.dim()):
        if like.stride(dimension) == 0 and like.shape[dimension] > 1:
            narrow = narrow.narrow(dimension, 0, 1)
    made = torch.empty_strided(narrow.shape, like.stride(), dtype=values.dtype, device=like.device)
    made = made.copy_(narrow).expand(values.shape)
    return made if narrow.shape == values.shape or _is_same(made, values) else values


def _is_same(made: Tensor, values: Tensor) -> bool:
    """True if all are the same numbers, with the same sign of zero."""
    same = (made == values) & (made.signbit() == values.signbit())
    return bool((same | (made.isnan() & values.isnan())).all())
