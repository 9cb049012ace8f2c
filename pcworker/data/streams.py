"""Random numbers whose bits are defined: whole numbers, and operations that IEEE-754 defines.

README.md of `pcworker.kernels.fixed` says how every number follows from (seed, purpose, epoch).
"""

import hashlib
import math

import numpy as np

_STEP = 0x9E3779B97F4A7C15
_LN_2 = float.fromhex("0x1.62e42fefa39efp-1")
_HALF_PI = float.fromhex("0x1.921fb54442d18p+0")
_ROOT_OF_HALF = float.fromhex("0x1.6a09e667f3bcdp-1")
LN = [1 / n for n in range(23, 0, -2)]
"""The coefficients of ln((1 + k) / (1 - k)) / 2k, by powers of k^2, the highest first."""
COS = [(-1) ** j / math.factorial(2 * j) for j in range(11, -1, -1)]
"""The coefficients of cos(x), by powers of x^2, the highest first."""
SIN = [(-1) ** j / math.factorial(2 * j + 1) for j in range(11, -1, -1)]
"""The coefficients of sin(x) / x."""


class Stream:
    """The numbers of (seed, purpose, epoch), from the first to the last."""

    def __init__(self, seed: int, purpose: str, epoch: int = 0) -> None:
        digest = hashlib.sha256(f"{seed}/{purpose}/{epoch}".encode()).digest()
        self.key = int.from_bytes(digest[:8], "big")
        """The first number of the generator, from 0 to 2^64 - 1. All numbers follow from it."""
        self._drawn = 0

    def skip(self, count: int) -> None:
        """Goes on as if so many numbers had been drawn."""
        self._drawn += count

    def integers(self, count: int) -> np.ndarray:
        """The next numbers, uint64 [count]."""
        numbers = self._at(self._drawn, count)
        self._drawn += count
        return numbers

    def uniform(self, count: int, bound: float) -> np.ndarray:
        """The next numbers as float64 in [-bound, bound)."""
        return (2 * ((self.integers(count) >> np.uint64(11)) * 2.0**-53) - 1) * bound

    def normals(self, count: int) -> np.ndarray:
        """The next numbers as standard normals, float64 [count]. Two numbers make two normals."""
        first, stop = self._drawn // 2, (self._drawn + count + 1) // 2
        both = _box_muller(self._at(2 * first, 2 * (stop - first)).reshape(-1, 2))
        start = self._drawn - 2 * first
        self._drawn += count
        return both.reshape(-1)[start : start + count]

    def _at(self, first: int, count: int) -> np.ndarray:
        """Numbers first, first + 1, ... of SplitMix64."""
        places = np.arange(first + 1, first + count + 1, dtype=np.uint64)
        z = np.uint64(self.key) + places * np.uint64(_STEP)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def order_of(seed: int, epoch: int, samples: int) -> np.ndarray:
    """The order of the training set in epoch `epoch` (the first is 1): indices, int64 [samples].

    Equal numbers stay in their order. There are hardly ever any, and a sort that does not care is
    five times as fast.
    """
    numbers = Stream(seed, "order", epoch).integers(samples)
    order = np.argsort(numbers)
    ordered = numbers[order]
    if np.any(ordered[1:] == ordered[:-1]):
        return np.argsort(numbers, kind="stable")
    return order


def _box_muller(pairs: np.ndarray) -> np.ndarray:
    """Standard normals [n, 2] of whole numbers [n, 2]: a radius and an angle of each pair."""
    z, w = pairs[:, 0], pairs[:, 1]
    m, e = np.frexp(((z >> np.uint64(11)) + np.uint64(1)) * 2.0**-53)
    small = m < _ROOT_OF_HALF
    m, e = np.where(small, m * 2, m), e - small
    k = (m - 1) / (m + 1)
    radius = np.sqrt(-2 * (e * _LN_2 + (k + k) * _horner(k * k, LN)))
    o = ((w >> np.uint64(9)) % np.uint64(2**53)) * 2.0**-53 * _HALF_PI
    c, s = _horner(o * o, COS), _horner(o * o, SIN) * o
    turns = w >> np.uint64(62)
    odd, back = turns % np.uint64(2) == 1, turns >= 2
    c, s = np.where(odd, 0 - s, c), np.where(odd, c, s)  # a quarter of a turn
    c, s = np.where(back, 0 - c, c), np.where(back, 0 - s, s)  # half a turn
    return np.stack([radius * c, radius * s], axis=1)


def _horner(x: np.ndarray, coefficients: list[float]) -> np.ndarray:
    """The polynomial with these coefficients, the highest power's first."""
    total = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        total = total * x + coefficient
    return total
