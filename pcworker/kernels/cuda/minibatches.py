"""Minibatches on a GPU: digits, targets and noise, which `data.cu` makes from bytes and numbers."""

from collections.abc import Sequence
from ctypes import Structure, c_int32, c_uint64
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pcworker.data.batches import TARGETS, pixels
from pcworker.data.randomness import batch_order
from pcworker.data.streams import COS, SIN, Stream
from pcworker.kernels.c_types import Batches
from pcworker.kernels.cuda.gpu import Gpu
from pcworker.kernels.cuda.memory import as_tensor, on_device, uploaded
from pcworker.trials.configuration import Configuration

DATA = Path(__file__).with_name("data.cu")
THREADS = 128
"""The threads of a block of `data.cu`."""
MOST_UPDATES = 1000
"""The most updates whose minibatches are listed at once. With 20 digits each they take 48 MB."""
_BATCHES = on_device(Batches)


class Minibatches(NamedTuple):
    """The minibatches of some updates of one seed, all of one size."""

    updates: int
    batch: int
    struct: Structure
    """`Batches` of `phases.c`, with addresses on the GPU."""
    kept: list[Tensor]
    """What the struct points to. It has to live as long as the struct is used."""


class Images(NamedTuple):
    """Images and labels as they lie on a GPU."""

    images: Tensor
    """uint8 [samples, pixels]"""
    labels: Tensor
    """int64 [samples]"""
    counts: np.ndarray
    """int64 [samples], in main memory: the number of pixels that are not 0."""


def on_gpu(images: Tensor, labels: Tensor) -> Images:
    """Images uint8 [samples, pixels] and labels int64 [samples] with the counts of their pixels."""
    return Images(images.contiguous(), labels, (images != 0).sum(1).cpu().numpy())


@lru_cache(maxsize=64)  # 31 MB of orders of MNIST
def order_of_epoch(seed: int, epoch: int, samples: int) -> Tensor:
    """`batch_order`, kept for the other shards of the same sweep. Nobody may write to it."""
    return batch_order(seed, epoch, samples)


class Gatherer:
    """Makes the minibatches of one configuration."""

    def __init__(self, gpu: Gpu, config: Configuration) -> None:
        self._gpu, self._config = gpu, config
        self._dtype = getattr(torch, config.dtype)
        defines = ["DOUBLE"] if config.dtype == "float64" else []
        self._program = gpu.program(DATA, defines)
        device = gpu.device
        # The CPU divides, because torch on a GPU multiplies by the reciprocal of 255.
        self.values = pixels(torch.arange(256, dtype=torch.uint8), self._dtype).to(device)
        """[256]: the value of a pixel, by its byte"""
        self.codes = torch.tensor(TARGETS[config.targets], dtype=self._dtype).to(device)
        """[2]: the targets of a wrong class and of the right one"""
        self._coefficients = uploaded(np.array([COS, SIN]), device)

    def minibatches(
        self, source: Images, order: Tensor, noise: Sequence[Tensor] = ()
    ) -> Minibatches:
        """The minibatches of these samples.

        order  int64 [updates, B], in main memory
        noise  standard normals [updates, B, n_l] for l = l_max - 1 .. 1, on the GPU, or nothing
        """
        updates, batch = order.shape
        n, classes, device = source.images.shape[1], self._config.widths[0], self._gpu.device
        counts = source.counts[order.numpy().reshape(-1)]
        rows = np.concatenate(([0], np.cumsum(counts)))
        entry = 2 * self.values.element_size()
        lists = [
            uploaded(rows.astype(np.int32), device),
            torch.empty(int(rows[-1]) + 1, entry, dtype=torch.uint8, device=device),
            torch.empty(updates * n + 1, dtype=torch.int32, device=device),
            torch.empty(int(rows[-1]) + 1, entry, dtype=torch.uint8, device=device),
        ]
        targets = torch.empty(updates, batch, classes, dtype=self._dtype, device=device)
        chosen = order.to(device)
        gathering = _Gathering(
            batch, n, classes, 0,
            *(t.data_ptr() for t in (*source[:2], chosen, self.values, self.codes)),
            lists[0].data_ptr(), lists[1].data_ptr(), lists[3].data_ptr(), lists[2].data_ptr(),
            targets.data_ptr(),
        )  # fmt: skip
        asked = as_tensor([gathering], device)
        self._program.launch("gather", updates, THREADS, 0, [asked.data_ptr()])
        by_layer = np.array([0, *(normals.data_ptr() for normals in reversed(noise))], np.int64)
        table = uploaded(by_layer, device)
        struct = _BATCHES(
            updates, batch, *(part.data_ptr() for part in lists), targets.data_ptr(),
            table.data_ptr() if noise else 0,
        )  # fmt: skip
        return Minibatches(updates, batch, struct, [*lists, targets, chosen, asked, table, *noise])

    def noise(self, seed: int, epoch: int, first: int, updates: int, batch: int) -> list[Tensor]:
        """The standard normals [updates, batch, n_l] for l = l_max - 1 .. 1, on the GPU.

        first  the number of samples of the epoch before these
        """
        widths = self._config.widths[-2:0:-1]
        if not widths:
            return []
        units = sum(widths)
        start, count = first * units, updates * batch * units
        pairs = (start + count + 1) // 2 - start // 2
        drawn = torch.empty(2 * pairs, dtype=self._dtype, device=self._gpu.device)
        key = Stream(seed, "noise", epoch).key
        numbers = [_signed(key), start // 2, pairs, self._coefficients.data_ptr(), drawn.data_ptr()]
        self._program.launch("normals", -(-pairs // THREADS), THREADS, 0, numbers)
        flat = drawn[start % 2 : start % 2 + count].reshape(updates, batch * units)
        parts = torch.split(flat, [batch * n for n in widths], dim=1)
        return [
            p.reshape(updates, batch, n).contiguous() for p, n in zip(parts, widths, strict=True)
        ]


class _Gathering(Structure):
    """`Gathering` of `data.cu`."""

    _fields_ = (
        *((name, c_int32) for name in ("batch", "pixels", "classes", "unused")),
        *((name, c_uint64) for name in ("images", "labels", "order", "values", "codes")),
        *((name, c_uint64) for name in ("sample_rows", "samples", "entries", "pixel_rows")),
        ("targets", c_uint64),
    )


def _signed(number: int) -> int:
    """The int64 with the bits of a uint64."""
    return number - 2**64 if number >= 2**63 else number
