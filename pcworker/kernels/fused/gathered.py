"""The minibatches of a seed as `fused.c` reads them: with the pixels that are not 0 in lists."""

from ctypes import c_int32, c_void_p

import numpy as np

from pcworker.data.batches import Chunk
from pcworker.kernels.c_types import Batches, pointers
from pcworker.kernels.fused.library import loaded

_ENTRY = np.dtype([("at", np.int32), ("value", np.float32)])
"""`Entry` of `fused.c`."""


class Gathered:
    """A chunk for `fused.c`. All trials of its seed may share it."""

    def __init__(self, chunk: Chunk, block: int) -> None:
        """`block` is the number of pixels whose products are summed apart, see `library.Orders`."""
        updates, batch, pixels = chunk.inputs.shape
        hidden = [normal.shape[2] for normal in reversed(chunk.noise)]
        self.shape = (batch, chunk.targets.shape[2], *hidden, pixels)
        """(B, n_0, the hidden widths if there is noise, n_{l_max})"""
        rows = updates * batch * -(-pixels // block)
        entries = chunk.inputs.numel() + 1  # `gather` writes one place beyond the last entry
        lists = [
            np.empty(rows + 1, np.int32),  # sample_rows
            np.empty(entries, _ENTRY),  # samples
            np.empty(updates * pixels + 1, np.int32),  # pixel_rows
            np.empty(entries, _ENTRY),  # pixels
        ]
        inputs, targets = chunk.inputs.contiguous(), chunk.targets.contiguous()
        noise = [normal.contiguous() for normal in chunk.noise]
        loaded().gather(
            *(c_int32(n) for n in (updates, batch, pixels, block)),
            c_void_p(inputs.data_ptr()),
            *(c_void_p(array.ctypes.data) for array in lists),
        )
        by_layer = pointers([None, *reversed(noise)]) if noise else None  # l = 0 has none
        self.struct = Batches(
            updates, batch, *(array.ctypes.data for array in lists), targets.data_ptr(), by_layer
        )
        """`Batches` of `fused.c`."""
        # the struct holds bare addresses, which keep nothing alive
        self._pointed_to = (lists, targets, noise)
