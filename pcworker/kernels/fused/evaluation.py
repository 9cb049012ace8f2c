"""Test errors by `fused.c`, which computes nothing for pixels that are 0."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pcworker.data.batches import Chunk, pixels
from pcworker.data.dataset import DataSet
from pcworker.kernels.fused.gathered import Gathered
from pcworker.kernels.fused.library import Orders
from pcworker.kernels.fused.trial import FusedTrial
from pcworker.kernels.program import forward
from pcworker.trials.configuration import Configuration
from pcworker.trials.trial import Trial

BATCH = 500
"""The number of images at once. What is computed for them stays in a core's cache."""


class FusedTest:
    """The test images of a data set, gathered for `fused.c` once."""

    def __init__(self, data: DataSet, config: Configuration, orders: Orders) -> None:
        self._labels = data.test_labels
        images = torch.split(pixels(data.test_images, torch.float32), BATCH)
        nothing = torch.zeros(1, BATCH, config.widths[0])
        self._gathered = [
            Gathered(Chunk(part.unsqueeze(0), nothing[:, : len(part)], []), orders.block)
            for part in images
        ]
        self._sizes = [len(part) for part in images]
        self._network = FusedTrial(Trial(config, 0), orders, batch=BATCH, only=forward(config))

    @torch.no_grad()
    def error(self, parameters: Sequence[Sequence[Tensor]]) -> float:
        """The fraction of wrong images, as `torch_operations.fraction_wrong` gives it."""
        network = self._network
        for ours, theirs in zip(network.parameters(), parameters, strict=True):
            ours[0].copy_(theirs[0])
        wrong = 0
        labels = torch.split(self._labels, BATCH)
        for gathered, size, label in zip(self._gathered, self._sizes, labels, strict=True):
            network.train(gathered, 0.0)
            wrong += int((network.prediction(0, size).argmax(1) != label).sum())
        return wrong / len(self._labels)
