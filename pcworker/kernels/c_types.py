"""The types by which Python and the C sources of kernels share memory."""

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, Structure, c_int32, c_void_p
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

OPERATION_CODES = (
    *("predict", "begin", "activate", "clamp", "compare", "listen", "move"),
    *("learn", "learn_gated", "pull_back"),
)
"""The operations of a program, in the order of the enumeration in each C source."""


class Batches(Structure):
    """`Batches` of each C source: the minibatches of some updates."""

    _fields_ = (
        ("updates", c_int32),
        ("batch", c_int32),
        ("sample_rows", c_void_p),
        ("samples", c_void_p),
        ("pixel_rows", c_void_p),
        ("pixels", c_void_p),
        ("targets", c_void_p),
        ("noise", POINTER(c_void_p)),
    )


def integers(values: Sequence[int]) -> "ctypes.Array[c_int32]":
    """An int32 array for a field of a struct, which keeps it alive."""
    return (c_int32 * max(1, len(values)))(*values)


def pointers(tensors: "Sequence[Tensor | None]") -> "ctypes.Array[c_void_p]":
    """An array of the tensors' addresses, for a field of a struct. It keeps no tensor alive."""
    addresses = [None if tensor is None else tensor.data_ptr() for tensor in tensors]
    return (c_void_p * len(tensors))(*addresses)
