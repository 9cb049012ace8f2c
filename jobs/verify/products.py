"""Checks of products and changes of odd shapes, with pixels of 0."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from jobs.verify.check import Check, address_of, numbers
from pcworker.kernels.fixed.library import Build

SHAPES = (
    *((1, 1, 1), (1, 129, 2), (2, 3, 1), (3, 65, 33), (5, 1, 127), (7, 30, 784), (7, 17, 30)),
    *((7, 10, 17), (11, 13, 0), (20, 32, 784), (21, 31, 63), (30, 17, 7), (64, 100, 5)),
)
"""(rows, columns, terms of a sum)"""


@dataclass(frozen=True)
class Operands:
    """What a product is made of."""

    a: np.ndarray
    """[rows, terms]; in pixels, three quarters of it and the second column are 0."""
    b: np.ndarray
    """[terms, columns]"""
    bias: np.ndarray
    """[columns]"""
    theta: np.ndarray
    """[rows, columns]"""


def products() -> list[Check]:
    """Every kind of product, in both dtypes."""
    kinds: dict[str, Callable[[Build], Iterator[np.ndarray]]] = {
        "products": partial(_products, pixels=False),
        "products with pixels of 0": partial(_products, pixels=True),
        "biases": _biases,
        "weights that move": _descents,
    }
    return [
        Check(name, d, arrays) for name, arrays in kinds.items() for d in ("float32", "float64")
    ]


def operands(shape: tuple[int, int, int], dtype: str, *, pixels: bool = False) -> Operands:
    """The made-up numbers for a product of this shape. A row of b whose pixels are all 0 is
    infinite: its terms are left out."""
    rows, columns, terms = shape
    purpose = f"product {rows} {columns} {terms}"
    drawn = numbers(purpose, rows * terms + terms * columns + columns + rows * columns)
    sizes = np.cumsum([rows * terms, terms * columns, columns])
    a, b, bias, theta = (part.astype(dtype) for part in np.split(drawn, sizes))
    a, b = a.reshape(rows, terms), b.reshape(terms, columns)
    if pixels:
        a[a < 0.5] = 0
        a[:, 1:2] = 0
        b[1:2] = np.inf
    return Operands(a, b, bias, theta.reshape(rows, columns))


def product_of(build: Build, ours: Operands, *, pixels: bool, turned: bool) -> np.ndarray:
    """a b. `turned` says that a lies as its transpose, as in a change of weights."""
    out = np.empty_like(ours.theta)
    a = np.ascontiguousarray(ours.a.T if turned else ours.a)
    at_a, at_b, at_out = address_of(a, ours.b, out)
    build.code.multiply(*out.shape, len(ours.b), at_a, turned, at_b, not pixels, at_out)
    return out


def bias_of(build: Build, ours: Operands) -> tuple[np.ndarray, np.ndarray]:
    """theta with the bias added to each row, and the sum of the rows of theta."""
    added, total = ours.theta.copy(), np.empty_like(ours.bias)
    build.code.add_bias(*added.shape, *address_of(ours.bias, added))
    build.code.add_rows(*added.shape, *address_of(ours.theta, total))
    return added, total


def descent_of(build: Build, ours: Operands) -> np.ndarray:
    """The bias after a step of 0.1 against a gradient, the first row of theta."""
    moved, gradient = ours.bias.copy(), ours.theta[0].copy()
    build.code.descend(len(moved), 0.1, *address_of(gradient, moved))
    return moved


def _products(build: Build, *, pixels: bool) -> Iterator[np.ndarray]:
    for shape in SHAPES:
        ours = operands(shape, build.dtype, pixels=pixels)
        for turned in (False, True):
            yield product_of(build, ours, pixels=pixels, turned=turned)


def _biases(build: Build) -> Iterator[np.ndarray]:
    for shape in SHAPES:
        yield from bias_of(build, operands(shape, build.dtype))


def _descents(build: Build) -> Iterator[np.ndarray]:
    for shape in SHAPES:
        yield descent_of(build, operands(shape, build.dtype))
