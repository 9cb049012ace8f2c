"""Makes minibatches of pictures, in the view that a network needs and the order of a seed."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from pcworker.data.batches import pixels
from pcworker.data.generators import image_order
from pcworker.data.images import DirectoryImages, Minibatch, minibatches
from pcworker.data.picture_sets import Pictures, PictureSet
from pcworker.data.views import PATCHES, shape_seen
from pcworker.errors import InputError


class PicturesSeen:
    """A set of pictures as a network sees it, on the device that trains. Pixels are in [0, 1],
    those of a directory are normalised, and targets are one-hot."""

    def __init__(
        self,
        pictures: Pictures | str,
        kind: PictureSet,
        view: str,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        """
        pictures  the pictures, or the path of a directory of images
        """
        self._directory = pictures if isinstance(pictures, str) else None
        self._kind, self._view, self._dtype, self._device = kind, view, dtype, device
        if not isinstance(pictures, str):
            self._train = self._there(pictures.train, pictures.train_labels)
            self._test = self._there(pictures.test, pictures.test_labels)

    def training(self, seed: int, size: int) -> Iterator[Minibatch]:
        """Yields minibatches of `size` without end, each epoch in its own order of the seed. A last
        minibatch that would be smaller is left out."""
        if self._directory is not None:
            samples = DirectoryImages(Path(self._directory), self._kind)
            for batch in minibatches(samples, seed, size, self._kind.classes, self._device):
                yield Minibatch(*(part.to(self._dtype) for part in self._seen(batch)))
            return
        pictures, labels = self._train
        whole = len(pictures) // size * size
        if not whole:
            raise InputError(f"batch_size {size}: the data set has {len(pictures)} pictures")
        for epoch in count(1):
            order = image_order(seed, epoch, len(pictures)).to(self._device)
            for start in range(0, whole, size):
                chosen = order[start : start + size]
                yield self._minibatch(pictures[chosen], labels[chosen])

    def testing(self, samples: int, size: int = 200) -> Iterator[Minibatch]:
        """Yields the first samples of the test set. A directory of images has none."""
        if self._directory is None:
            pictures, labels = (part[:samples] for part in self._test)
            for start in range(0, len(pictures), size):
                some = slice(start, start + size)
                yield self._minibatch(pictures[some], labels[some])

    def _there(self, *parts: object) -> tuple[Tensor, Tensor]:
        pictures, labels = (torch.tensor(part) for part in parts)
        return pictures.to(self._device), labels.to(self._device, torch.int64)

    def _minibatch(self, pictures: Tensor, labels: Tensor) -> Minibatch:
        targets = one_hot(labels, self._kind.classes).to(self._dtype)
        return self._seen(Minibatch(pixels(pictures, self._dtype), targets))

    def _seen(self, batch: Minibatch) -> Minibatch:
        return batch._replace(inputs=seen(self._view, batch.inputs))


def seen(view: str, pictures: Tensor) -> Tensor:
    """Pictures [B, channels, height, width] in a view, in memory in the order of its dimensions."""
    samples, channels, height, width = pictures.shape
    shape = shape_seen(view, (channels, height, width))
    if view == "rows":
        pictures = pictures.transpose(1, 2)
    elif view == "patches":
        tall, wide = height // PATCHES, width // PATCHES
        pictures = pictures.reshape(samples, channels, PATCHES, tall, PATCHES, wide)
        pictures = pictures.permute(0, 2, 4, 1, 3, 5)
    return pictures.reshape(samples, *shape).contiguous()
