"""Holds the digits on the device that trains, and yields their minibatches."""

from collections.abc import Iterator

import numpy as np
import torch

from pcworker.data.batches import Batch, Chunk, epoch_chunks, pixels, target_values
from pcworker.data.mnist import Digits
from pcworker.trials.configuration import Configuration


class DataSet:
    """A training set and a test set on one device."""

    def __init__(self, digits: Digits, device: torch.device) -> None:
        self.device = device
        self.train_images = torch.from_numpy(np.array(digits.train_images)).to(device)
        self.train_labels = torch.from_numpy(digits.train_labels.astype(np.int64)).to(device)
        self.test_images = torch.from_numpy(np.array(digits.test_images)).to(device)
        self.test_labels = torch.from_numpy(digits.test_labels.astype(np.int64)).to(device)

    @property
    def samples(self) -> int:
        """The size of the training set."""
        return len(self.train_images)

    def batches(self, config: Configuration, seed: int, epoch: int, noisy: bool) -> Iterator[Batch]:
        """Yields the minibatches of an epoch (the first is 1) in the order of the seed.

        noisy  whether to draw the noise of condition C1
        """
        for chunk in self.chunks(config, seed, epoch, noisy):
            yield from chunk.batches()

    def chunks(
        self, config: Configuration, seed: int, epoch: int, noisy: bool, done: int = 0
    ) -> Iterator[Chunk]:
        """Yields the same minibatches as `batches`, many at a time, without the first `done`."""
        images, labels = self.train_images, self.train_labels
        return epoch_chunks(config, seed, epoch, images, labels, noisy, done)

    def test_batches(self, config: Configuration, count: int) -> Iterator[Batch]:
        """Yields the first `count` minibatches of the test set, in its own order, without noise."""
        dtype, size = getattr(torch, config.dtype), config.batch_size
        for start in range(0, count * size, size):
            some = slice(start, start + size)
            targets = target_values(self.test_labels[some], config)
            yield Batch(pixels(self.test_images[some], dtype), targets, [])
