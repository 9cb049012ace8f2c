"""Digests of weights. Two digests are equal if and only if every weight is, bit for bit.

+0 and -0 count as the same weight: nothing that is computed from a weight depends on its sign.
"""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

Parameters = Sequence[Sequence[np.ndarray]]
"""theta^{l+1} for l = 0 .. l_max - 1: [weight [n_l, n_{l+1}]], or [weight, bias [n_l]]."""


def parameter_sha256(parameter: np.ndarray) -> str:
    """The sha256 of the parameter's little-endian bytes with -0 as +0, as hex digits."""
    positive = parameter + parameter.dtype.type(0)
    little = positive.astype(parameter.dtype.newbyteorder("<"), copy=False)
    return hashlib.sha256(np.ascontiguousarray(little).tobytes()).hexdigest()


def network_digest(parameters: Parameters) -> str:
    """One sha256 for all parameters of a network."""
    return combine(parameter_sha256(p) for layer in parameters for p in layer)


def nonfinite_digest(updates: int) -> str:
    """What stands in the place of a digest for a network that was found to be not finite after
    this many weight updates. A NaN has no bits that all processors agree on."""
    return f"nonfinite {updates}"


def combine(parameter_shas: Iterable[str]) -> str:
    """The `network_digest` from the parameters' sha256s, layer by layer, weight before bias."""
    return hashlib.sha256("\n".join(parameter_shas).encode()).hexdigest()
