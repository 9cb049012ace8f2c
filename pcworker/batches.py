"""From bytes of digits to the tensors that a trial learns from: raw pixels in [0, 1], targets."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from pcworker.config import Configuration
from pcworker.randomness import batch_order, generator, noise

TARGETS = {"onehot": (0.0, 1.0), "soft": (0.03, 0.97)}
"""Target of the wrong classes and of the right one; "soft" is Whittington & Bogacz (2017)'s."""


class Batch(NamedTuple):
    """One minibatch of one seed."""

    inputs: Tensor
    """[B, n_{l_max}]"""
    targets: Tensor
    """[B, n_0]"""
    noise: list[Tensor]
    """Standard normals [B, n_l] for l = l_max - 1 .. 1; empty where none was asked for."""


def pixels(images: Tensor, dtype: torch.dtype) -> Tensor:
    """uint8 [B, pixels] to [0, 1]: divided by 255, not normalised."""
    return images.to(dtype).div_(255)


def target_values(labels: Tensor, config: Configuration) -> Tensor:
    """int64 labels [B] to [B, n_0] by the configuration's target coding."""
    low, high = TARGETS[config.targets]
    dtype = getattr(torch, config.dtype)
    targets = torch.full((len(labels), config.widths[0]), low, dtype=dtype, device=labels.device)
    return targets.scatter_(1, labels.unsqueeze(1), high)


def epoch_batches(
    config: Configuration, seed: int, epoch: int, images: Tensor, labels: Tensor, noisy: bool
) -> Iterator[Batch]:
    """The batches of epoch `epoch` (from 1) in the seed's order; the last one may be smaller.

    images  uint8 [samples, n_{l_max}] and labels int64 [samples], on the device to be trained on
    noisy   whether to draw the noise of condition C1; equal for every sigma of the seed
    """
    order = batch_order(seed, epoch, len(images)).to(images.device)
    source = generator(seed, "noise", epoch)
    hidden = config.widths[-2:0:-1]
    dtype = getattr(torch, config.dtype)
    for chosen in torch.split(order, config.batch_size):
        drawn = noise(source, len(chosen), hidden) if noisy else []
        yield Batch(
            pixels(images[chosen], dtype),
            target_values(labels[chosen], config),
            [normal.to(device=images.device, dtype=dtype) for normal in drawn],
        )
