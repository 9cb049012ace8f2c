"""The minibatches of a seed as `phases.c` reads them: with the pixels that are not 0 in lists."""

from ctypes import byref, c_float

import numpy as np
import torch

from pcworker.data.batches import Chunk
from pcworker.kernels.c_types import Batches, pointers
from pcworker.kernels.fixed.library import Build


class PixelLists:
    """A chunk for `phases.c`. All trials of its seed may share it."""

    def __init__(self, chunk: Chunk, build: Build) -> None:
        updates, batch, pixels = chunk.inputs.shape
        hidden = [normal.shape[2] for normal in reversed(chunk.noise)]
        self.shape = (batch, chunk.targets.shape[2], *hidden, pixels)
        """(B, n_0, the hidden widths if there is noise, n_{l_max})"""
        dtype = torch.float32 if build.real is c_float else torch.float64
        parts = (chunk.inputs, chunk.targets, *reversed(chunk.noise))
        inputs, targets, *noise = (part.to(dtype).contiguous() for part in parts)
        number = np.dtype(inputs.numpy().dtype)
        entry = np.dtype([("at", np.int32), ("value", number)], align=True)
        entries = chunk.inputs.numel() + 1  # `gather` writes one place beyond the last entry
        lists = [
            np.empty(updates * batch + 1, np.int32),  # sample_rows
            np.empty(entries, entry),  # samples
            np.empty(updates * pixels + 1, np.int32),  # pixel_rows
            np.empty(entries, entry),  # pixels
        ]
        next_places = np.empty(pixels, np.int32)
        build.code.gather(
            updates,
            batch,
            pixels,
            inputs.data_ptr(),
            *(array.ctypes.data for array in (*lists, next_places)),
        )
        by_layer = pointers([None, *noise]) if noise else None  # l = 0 has none
        self._struct = Batches(
            updates, batch, *(array.ctypes.data for array in lists), targets.data_ptr(), by_layer
        )
        self.address = byref(self._struct)
        """The address of `Batches` of `phases.c`."""
        # the struct holds bare addresses, which keep nothing alive
        self._pointed_to = (lists, targets, noise)
