"""What is measured of a network: its test error, and its distance to the twin.

Everything is computed trial by trial, on fresh copies: a metric does not depend on the stack.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from pcworker.data.batches import pixels
from pcworker.data.dataset import DataSet
from pcworker.trials.configuration import Configuration
from pcworker.trials.digests import Parameters


class Distance(NamedTuple):
    """How far two networks' weights are apart, in float64."""

    l2: float
    """Sum over layers of the L2 norm of the difference."""
    l1: float
    """Sum over all weights of the absolute difference."""
    maxabs: float
    """Largest absolute difference."""


def to_numpy(parameters: Sequence[Sequence[Tensor]]) -> list[list[np.ndarray]]:
    """Copies in main memory."""
    return [[p.detach().cpu().numpy().copy() for p in layer] for layer in parameters]


def outputs(config: Configuration, parameters: Sequence[Sequence[Tensor]], x: Tensor) -> Tensor:
    """y^0 [B, n_0] of one network for x [B, n_{l_max}] (Eq. 1): what every rule predicts with."""
    f = getattr(torch, config.activation)
    for l in reversed(range(len(parameters))):
        x = nn.functional.linear(x, *parameters[l])
        x = f(x) if l > 0 else x
    return x


def fraction_wrong(
    data: DataSet, config: Configuration, parameters: Sequence[Sequence[Tensor]]
) -> float:
    """The share of the test set's images whose largest output is not at their label: `test_error`
    in the tables."""
    copies = [[p.clone() for p in layer] for layer in parameters]
    images = pixels(data.test_images, getattr(torch, config.dtype))
    wrong = outputs(config, copies, images).argmax(1) != data.test_labels
    return int(wrong.sum()) / len(data.test_labels)


def distance(ours: Parameters, theirs: Parameters) -> Distance:
    """The distance between two networks of one shape; a bias belongs to its layer.

    Infinite where it is beyond float64."""
    l2 = l1 = largest = 0.0
    for layer, other in zip(ours, theirs, strict=True):
        with np.errstate(over="ignore"):
            parts = [
                np.subtract(a, b, dtype=np.float64).ravel()
                for a, b in zip(layer, other, strict=True)
            ]
            difference = np.abs(np.concatenate(parts))
            l2 += _norm(difference)
            l1 += float(difference.sum())
            largest = max(largest, float(difference.max()))
    return Distance(l2, l1, largest)


def _norm(values: np.ndarray) -> float:
    """L2 norm of absolute values in float64, also where their squares over- or underflow."""
    norm, scale = float(np.sqrt(np.square(values).sum())), float(values.max())
    if scale in (0.0, math.inf):
        return scale
    if 0 < norm < math.inf:
        return norm
    return scale * float(np.sqrt(np.square(values / scale).sum()))


def energy(squares: Tensor, samples: int) -> float:
    """Mean over samples of 1/2 sum (s_out - y^0)^2, from the squares added up over an epoch's
    batches, float64 [B, n_0]."""
    return 0.5 * float(np.ascontiguousarray(squares.cpu().numpy()).sum()) / samples


def is_finite(parameters: Parameters) -> bool:
    """Whether every parameter of a network is finite."""
    return all(bool(np.isfinite(p).all()) for layer in parameters for p in layer)
