"""The engine: trains the trials of a shard on one device, on one data set.

It knows tensors and trials; it knows nothing of Ray, of stores or of sweeps.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from pcworker.batches import Batch, epoch_batches, pixels
from pcworker.config import Configuration, Trial
from pcworker.digits import Digits
from pcworker.measures import test_error
from pcworker.results import ShardResult
from pcworker.training import Training


class Engine:
    """One device and one data set."""

    def __init__(self, digits: Digits, device: torch.device) -> None:
        self.device = device
        self._train_images = torch.from_numpy(np.array(digits.train_images)).to(device)
        self._train_labels = torch.from_numpy(digits.train_labels.astype(np.int64)).to(device)
        self._test_images = torch.from_numpy(np.array(digits.test_images)).to(device)
        self._test_labels = torch.from_numpy(digits.test_labels.astype(np.int64)).to(device)

    @property
    def samples(self) -> int:
        """Size of the training set."""
        return len(self._train_images)

    def batches(self, config: Configuration, seed: int, epoch: int, noisy: bool) -> Iterator[Batch]:
        """The training set in the seed's order of that epoch (from 1)."""
        return epoch_batches(config, seed, epoch, self._train_images, self._train_labels, noisy)

    def test_error(self, config: Configuration, parameters: Sequence[Sequence[Tensor]]) -> float:
        """Fraction wrong of the test set."""
        images = pixels(self._test_images, getattr(torch, config.dtype))
        return test_error(config, parameters, images, self._test_labels)

    def run(
        self,
        trials: Sequence[Trial],
        *,
        max_width: int | None = None,
        report: Callable[[float], None] = lambda share: None,
    ) -> ShardResult:
        """Trains `trials`, which share a `stack_key`, and their twins beside them.

        max_width  most trials in one stack; None: all
        report     is told the share of the work that is done, 0 to 1, now and then
        """
        started = time.monotonic()
        training = Training(self, trials, max_width)
        epochs = training.config.epochs
        for epoch in range(1, epochs + 1):
            training.train_epoch(epoch, partial(_report_epoch, report, epoch, epochs))
            training.measure(epoch)
        return training.result(time.monotonic() - started)


def _report_epoch(report: Callable[[float], None], epoch: int, epochs: int, share: float) -> None:
    """Of a share of one epoch, the share of all of them."""
    report((epoch - 1 + share) / epochs)
