"""Digests of weights. Two digests are equal if and only if every bit of the weights is."""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

Parameters = Sequence[Sequence[np.ndarray]]
"""theta^{l+1} for l = 0 .. l_max - 1: [weight [n_l, n_{l+1}]], or [weight, bias [n_l]]."""


def parameter_sha256(parameter: np.ndarray) -> str:
    """The sha256 of the parameter's little-endian bytes, as hex digits."""
    little = parameter.astype(parameter.dtype.newbyteorder("<"), copy=False)
    return hashlib.sha256(np.ascontiguousarray(little).tobytes()).hexdigest()


def network_digest(parameters: Parameters) -> str:
    """One sha256 for all parameters of a network."""
    return combine(parameter_sha256(p) for layer in parameters for p in layer)


def combine(parameter_shas: Iterable[str]) -> str:
    """The `network_digest` from the parameters' sha256s, layer by layer, weight before bias."""
    return hashlib.sha256("\n".join(parameter_shas).encode()).hexdigest()
