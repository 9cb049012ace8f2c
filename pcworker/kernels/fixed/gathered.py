"""The minibatches of a seed as `phases.c` reads them: with the pixels that are not 0 in lists."""

from collections.abc import Sequence
from ctypes import byref
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from pcworker.data.batches import Chunk, pixels
from pcworker.data.dataset import DataSet
from pcworker.kernels.c_types import Batches, pointers
from pcworker.kernels.fixed.library import Build, built


class PixelLists:
    """Some minibatches for `phases.c`. All trials of their seed may share them."""

    def __init__(
        self, lists: Sequence[np.ndarray], targets: Tensor, noise: Sequence[Tensor], pixels: int
    ) -> None:
        """
        lists    `sample_rows`, `samples`, `pixel_rows` and `pixels` of `Batches`
        targets  [U, B, n_0]
        noise    standard normals [U, B, n_l] for l = 1 .. l_max - 1, or nothing
        pixels   n_{l_max}
        """
        updates, batch, outputs = targets.shape
        self.shape = (batch, outputs, *(normals.shape[2] for normals in noise), pixels)
        """(B, n_0, the hidden widths if there is noise, n_{l_max})"""
        by_layer = pointers([None, *noise]) if noise else None  # l = 0 has none
        self._struct = Batches(
            updates, batch, *(array.ctypes.data for array in lists), targets.data_ptr(), by_layer
        )
        self.address = byref(self._struct)
        """The address of `Batches` of `phases.c`."""
        # the struct holds bare addresses, which keep nothing alive
        self.arrays, self.numbers = tuple(lists), (targets, *noise)


def listed(chunk: Chunk, build: Build) -> PixelLists:
    """Lists the pixels of a chunk."""
    updates, batch, width = chunk.inputs.shape
    dtype = getattr(torch, build.dtype)
    parts = (chunk.inputs, chunk.targets, *reversed(chunk.noise))
    inputs, targets, *noise = (part.to(dtype).contiguous() for part in parts)
    entries = chunk.inputs.numel() + 1  # `gather` writes one place beyond the last entry
    lists, room = _empty(updates, batch, width, entries, build), np.empty(width, np.int32)
    addresses = [array.ctypes.data for array in (*lists, room)]
    build.code.gather(updates, batch, width, inputs.data_ptr(), *addresses)
    return PixelLists(lists, targets, noise, width)


class ImageLists:
    """The pixels of many images that are not 0, listed once. Minibatches are made of the lists."""

    def __init__(self, images: Tensor, build: Build) -> None:
        """`images` is uint8 [samples, n_{l_max}], in main memory."""
        samples, self._width = images.shape
        self._build = build
        entries = int(torch.count_nonzero(images)) + 1  # one place beyond the last entry
        self._lists = (
            np.empty(samples + 1, np.int64),
            np.empty(entries, np.uint16),
            np.empty(entries, np.uint8),
        )
        values = pixels(torch.arange(256, dtype=torch.uint8), getattr(torch, build.dtype))
        self._values = values.numpy()
        """[256]: the value of a pixel, by its byte"""
        addresses = (array.ctypes.data for array in self._lists)
        build.code.list_bytes(samples, self._width, images.contiguous().data_ptr(), *addresses)

    def minibatches(self, order: Tensor, targets: Tensor, noise: Sequence[Tensor]) -> PixelLists:
        """The minibatches of the images `order`, int64 [U, B]. The others are as `PixelLists` takes
        them."""
        chosen, rows = order.contiguous().numpy(), self._lists[0]
        updates, batch = chosen.shape
        entries = int((rows[chosen + 1] - rows[chosen]).sum())
        lists = _empty(updates, batch, self._width, entries, self._build)
        room = np.empty(self._width, np.int32)
        arrays = (chosen, *self._lists, self._values, *lists, room)
        addresses = [array.ctypes.data for array in arrays]
        self._build.code.gather_listed(updates, batch, self._width, *addresses)
        return PixelLists(lists, targets, noise, self._width)


@lru_cache(maxsize=2)  # a worker has one data set, and hardly ever two types
def training_lists(data: DataSet, dtype: str) -> ImageLists:
    """The lists of a data set's training images, which all shards of a process share."""
    return ImageLists(data.train_images, built(dtype))


def _empty(updates: int, batch: int, width: int, entries: int, build: Build) -> list[np.ndarray]:
    """Room for the lists of `PixelLists`."""
    entry = np.dtype([("at", np.int32), ("value", np.dtype(build.dtype))], align=True)
    return [
        np.empty(updates * batch + 1, np.int32),
        np.empty(entries, entry),
        np.empty(updates * width + 1, np.int32),
        np.empty(entries, entry),
    ]
