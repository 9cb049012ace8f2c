"""Checks of the random streams: initial weights, the order of the samples, noise."""

from collections.abc import Iterator

import numpy as np

from jobs.verify.check import MADE_UP_SEED, Check
from pcworker.data.streams import Stream, order_of
from pcworker.kernels.fixed.library import Build

SAMPLES, EPOCHS, NUMBERS = 60_000, 3, 500_000


def streams() -> list[Check]:
    """The streams. All are drawn in float64, by NumPy."""
    return [
        Check("stream of weights", "float64", _weights),
        Check("stream of orders", "int64", _orders),
        Check("stream of noise", "float64", _noise),
    ]


def _weights(build: Build) -> Iterator[np.ndarray]:
    del build
    for bound in (0.1, 1 / 3, 3.0):
        yield Stream(MADE_UP_SEED, "weights").uniform(NUMBERS, bound)


def _orders(build: Build) -> Iterator[np.ndarray]:
    del build
    for epoch in range(1, EPOCHS + 1):
        yield order_of(MADE_UP_SEED, epoch, SAMPLES).astype(np.int64)


def _noise(build: Build) -> Iterator[np.ndarray]:
    del build
    for epoch in range(1, EPOCHS + 1):
        yield Stream(MADE_UP_SEED, "noise", epoch).normals(NUMBERS)
