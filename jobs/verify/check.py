"""A check: numbers that a build computes, and one digest of them."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from pcworker.data.streams import Stream
from pcworker.kernels.fixed.library import Build

MADE_UP_SEED = 20201206
"""The seed of everything that is made up here."""


@dataclass(frozen=True)
class Check:
    """Numbers that are the same on every machine that follows the page of the arithmetic."""

    name: str
    dtype: str
    arrays: Callable[[Build], Iterable[np.ndarray]]
    """Computes the numbers, by a build for the dtype."""

    @property
    def title(self) -> str:
        """What the table of digests calls it."""
        return f"{self.name}, {self.dtype}"

    def digest(self, build: Build) -> str:
        """The sha256 of the little-endian bytes of all numbers, with -0 as +0."""
        sha = hashlib.sha256()
        for array in self.arrays(build):
            sha.update(canonical(array).data)
        return sha.hexdigest()


def canonical(array: np.ndarray) -> np.ndarray:
    """The bytes of an array that count: little-endian, row by row, with -0 as +0. A NaN has no
    bits of its own, so all NaNs get the same."""
    array, size = array.astype(array.dtype.newbyteorder("="), order="C"), array.dtype.itemsize
    bits = array.view(f"u{size}")
    if array.dtype.kind == "f":
        nan = np.isnan(array)
        sign = 1 << (8 * size - 1)
        infinity = int(np.array(np.inf, array.dtype).view(f"u{size}"))
        bits[bits == sign] = 0
        bits[nan] = infinity + 1
    return bits.astype(bits.dtype.newbyteorder("<"), copy=False).reshape(-1)


def numbers(purpose: str, count: int, bound: float = 1.0) -> np.ndarray:
    """float64 [count] in [-bound, bound), drawn as the page draws weights."""
    return Stream(MADE_UP_SEED, purpose).uniform(count, bound)


def address_of(*arrays: np.ndarray) -> Iterator[int]:
    """The addresses of arrays, for C."""
    for array in arrays:
        assert array.flags.c_contiguous
        yield array.ctypes.data
