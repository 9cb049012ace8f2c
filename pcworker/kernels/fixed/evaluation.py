"""Test errors by `phases.c`: the prediction of the first inference step, and comparisons."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from pcworker.data.dataset import DataSet
from pcworker.kernels.fixed.gathered import ImageLists, PixelLists
from pcworker.kernels.fixed.library import built
from pcworker.kernels.fixed.trial import FixedTrial
from pcworker.kernels.program import forward
from pcworker.trials.configuration import Configuration
from pcworker.trials.trial import Trial

IMAGES = 500
"""The number of images at once. What is computed for them stays in a core's cache."""


class FixedTest:
    """The test errors of one network after the other."""

    def __init__(self, data: DataSet, config: Configuration) -> None:
        self._network = FixedTrial(Trial(config, 0), batch=IMAGES, only=forward(config))
        self._labels = data.test_labels
        self._lists = test_images_listed(data, config.dtype, config.widths[0])

    @torch.no_grad()
    def error(self, parameters: Sequence[Sequence[Tensor]]) -> float:
        """The fraction of the images that a network with these parameters gets wrong."""
        for ours, theirs in zip(self._network.parameters(), parameters, strict=True):
            for parameter, value in zip(ours, theirs, strict=True):
                parameter.copy_(value)
        outputs = []
        for lists in self._lists:
            self._network.train(lists, 0.0)
            outputs.append(self._network.prediction(0, lists.shape[0]).clone())
        total, right = len(self._labels), int(is_right(torch.cat(outputs), self._labels).sum())
        return (total - right) / total


@lru_cache(maxsize=2)  # as `training_lists`
def test_images_listed(data: DataSet, dtype: str, outputs: int) -> list[PixelLists]:
    """The test images of a data set, which all shards of a process share."""
    lists = ImageLists(data.test_images, built(dtype))
    nothing = torch.zeros(1, IMAGES, outputs, dtype=getattr(torch, dtype))
    return [
        lists.minibatches(order.unsqueeze(0), nothing[:, : len(order)], [])
        for order in torch.split(torch.arange(len(data.test_images)), IMAGES)
    ]


def is_right(outputs: Tensor, labels: Tensor) -> Tensor:
    """Whether the first of the largest of the outputs [B, n] is at the label, for each of B images.

    An image with an output that is NaN is not right.
    """
    at_label = outputs.gather(1, labels.unsqueeze(1))
    before = torch.arange(outputs.shape[1]) < labels.unsqueeze(1)
    larger = torch.where(before, at_label > outputs, at_label >= outputs)
    return larger.all(1)
