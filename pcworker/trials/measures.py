"""Measures trained networks: their distance from a twin, and the energy of an epoch.

Everything is computed trial by trial, on fresh copies, so that no metric depends on the kernel.
Sums go through the elements in their order, so that none depends on a library or a processor.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pcworker.trials.digests import Parameters

if TYPE_CHECKING:
    from torch import Tensor


class Distance(NamedTuple):
    """How far the weights of two networks are apart, in float64."""

    l2: float
    """The sum over layers of the L2 norm of the difference."""
    l1: float
    """The sum over all weights of the absolute difference."""
    maxabs: float
    """The largest absolute difference."""


def to_numpy(parameters: "Sequence[Sequence[Tensor]]") -> list[list[np.ndarray]]:
    """Copies of the parameters in main memory."""
    return [[p.detach().cpu().numpy().copy() for p in layer] for layer in parameters]


def distance(ours: Parameters, theirs: Parameters) -> Distance:
    """The distance between two networks of one shape. A bias belongs to its layer.

    A value is infinite if it is beyond float64.
    """
    l2 = l1 = largest = 0.0
    for layer, other in zip(ours, theirs, strict=True):
        with np.errstate(over="ignore"):
            parts = [
                np.subtract(a, b, dtype=np.float64).ravel()
                for a, b in zip(layer, other, strict=True)
            ]
            difference = np.abs(np.concatenate(parts))
            l2 += _norm(difference)
            l1 += _total(difference)
            largest = max(largest, float(difference.max()))
    return Distance(l2, l1, largest)


def are_finite(parameters: "Sequence[Sequence[Tensor]]") -> bool:
    """True if all parameters are finite. If a sum is finite, its terms are, and that is soon said.
    Terms that are finite may have a sum that is not, so that they are looked at one by one."""
    return all(
        math.isfinite(float(p.sum())) or math.isfinite(float(p.abs().max()))
        for layer in parameters
        for p in layer
    )


def energy(squares: "Tensor", samples: int) -> float:
    """The mean over samples of 1/2 sum (s_out - y^0)^2.

    squares  float64 [B, n_0]: the squared errors, added up over an epoch's batches
    """
    return 0.5 * _total(squares.cpu().numpy()) / samples


def _norm(values: np.ndarray) -> float:
    """The L2 norm of absolute values in float64, also where their squares over- or underflow."""
    norm, scale = math.sqrt(_total(np.square(values))), float(values.max())
    if scale in (0.0, math.inf):
        return scale
    if 0 < norm < math.inf:
        return norm
    return scale * math.sqrt(_total(np.square(values / scale)))


def _total(values: np.ndarray) -> float:
    """The sum of the values, added one by one from the first to the last, row by row."""
    return float(np.add.accumulate(values.ravel())[-1])
