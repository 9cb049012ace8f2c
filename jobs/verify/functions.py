"""Checks of exp, f and f', on a few million inputs, or on all inputs of float32."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from jobs.verify.check import MADE_UP_SEED, Check, address_of, numbers
from pcworker.data.streams import Stream
from pcworker.kernels.fixed.library import F_CODES, Build

STRIDE = 1021
"""Of the bit patterns of float32 every STRIDE-th is an input: 4.2 million, NaNs included."""
WIDE = 2**20
"""The number of inputs in float64, and of those of f'."""
_PIECE = 2**20
_EDGES = (0.0, -0.0, np.inf, -np.inf, 1e-45, -1e-45, 1.0, -1.0, 1e-300, -1e-300)


def functions() -> list[Check]:
    """Every function and derivative, in both dtypes."""
    both = ("float32", "float64")
    return [
        *(Check(name, d, partial(_values, name)) for name in F_CODES for d in both),
        *(Check(f"{f}'", d, partial(_slopes, f)) for f in F_CODES if f != "exp" for d in both),
    ]


def every_input() -> list[Check]:
    """The functions that are hard to compute, of all 2^32 bit patterns of float32."""
    return [
        Check(f"{name} of all inputs", "float32", partial(_all_values, name))
        for name in ("exp", "sigmoid", "tanh")
    ]


def inputs(dtype: str) -> np.ndarray:
    """The inputs of f. In float64 they have random digits and signs, and exponents from -60 to 11,
    because most other numbers give 0, 1 or themselves."""
    if dtype == "float32":
        strided = np.arange(0, 2**32, STRIDE, dtype=np.uint64).astype(np.uint32).view(np.float32)
        return np.concatenate([strided, np.array(_EDGES, np.float32)])
    return np.concatenate([_wide("inputs", dtype), np.array(_EDGES)])


def slope_inputs(dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """The inputs of f'(x) g: g, and y = f(x) in [-1, 1)."""
    return _wide("gradients", dtype), numbers("outputs", WIDE).astype(dtype)


def domain(name: str, x: np.ndarray) -> np.ndarray:
    """The inputs that the function has: exp has none above 0."""
    return -np.abs(x) if name == "exp" else x


def applied(build: Build, name: str, x: np.ndarray) -> np.ndarray:
    """f(x)"""
    out = np.empty_like(x)
    build.code.apply(F_CODES.index(name), len(x), *address_of(x, out))
    return out


def applied_back(build: Build, name: str, g: np.ndarray, y: np.ndarray) -> np.ndarray:
    """f'(x) g, where y = f(x)"""
    out = np.empty_like(g)
    build.code.apply_back(F_CODES.index(name), len(g), *address_of(g, y, out))
    return out


def _wide(purpose: str, dtype: str) -> np.ndarray:
    z = Stream(MADE_UP_SEED, purpose).integers(WIDE)
    digits, sign = z & np.uint64(2**52 - 1), z & np.uint64(2**63)
    exponent = (z >> np.uint64(52)) % np.uint64(2**11) % np.uint64(72) + np.uint64(1023 - 60)
    made: np.ndarray = (sign | exponent << np.uint64(52) | digits).view(np.float64)
    return made.astype(dtype)


def _values(name: str, build: Build) -> Iterator[np.ndarray]:
    yield applied(build, name, domain(name, inputs(build.dtype)))


def _slopes(name: str, build: Build) -> Iterator[np.ndarray]:
    yield applied_back(build, name, *slope_inputs(build.dtype))


def _all_values(name: str, build: Build) -> Iterator[np.ndarray]:
    first = 2**31 if name == "exp" else 0  # exp has the inputs with a sign
    for start in range(first, 2**32, _PIECE):
        patterns = np.arange(start, start + _PIECE, dtype=np.uint64).astype(np.uint32)
        yield applied(build, name, patterns.view(np.float32))
