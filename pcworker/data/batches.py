"""From bytes of digits to the tensors that a trial learns from: raw pixels in [0, 1], targets."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from pcworker.data.randomness import batch_order, generator, noise
from pcworker.trials.configuration import Configuration

TARGETS = {"onehot": (0.0, 1.0), "soft": (0.03, 0.97)}
"""Target of the wrong classes and of the right one; "soft" is Whittington & Bogacz (2017)'s."""


CHUNK = 100
"""Most updates in a chunk, and updates between two looks for weights that are not finite."""


class Batch(NamedTuple):
    """One minibatch of one seed."""

    inputs: Tensor
    """[B, n_{l_max}]"""
    targets: Tensor
    """[B, n_0]"""
    noise: list[Tensor]
    """Standard normals [B, n_l] for l = l_max - 1 .. 1; empty where none was asked for."""


class Chunk(NamedTuple):
    """U minibatches of one seed and one size, that follow each other."""

    inputs: Tensor
    """[U, B, n_{l_max}]"""
    targets: Tensor
    """[U, B, n_0]"""
    noise: list[Tensor]
    """Standard normals [U, B, n_l] for l = l_max - 1 .. 1; empty where none was asked for."""

    def batches(self) -> Iterator[Batch]:
        """Each in memory of its own: bits may depend on how the operands of a product lie."""
        for place in range(len(self.inputs)):
            normals = [normal[place] for normal in self.noise]
            yield Batch(self.inputs[place].clone(), self.targets[place], normals)


def pixels(images: Tensor, dtype: torch.dtype) -> Tensor:
    """uint8 [B, pixels] to [0, 1]: divided by 255, not normalised."""
    return images.to(dtype).div_(255)


def target_values(labels: Tensor, config: Configuration) -> Tensor:
    """int64 labels [B] to [B, n_0] by the configuration's target coding."""
    low, high = TARGETS[config.targets]
    dtype = getattr(torch, config.dtype)
    targets = torch.full((len(labels), config.widths[0]), low, dtype=dtype, device=labels.device)
    return targets.scatter_(1, labels.unsqueeze(1), high)


def epoch_chunks(
    config: Configuration, seed: int, epoch: int, images: Tensor, labels: Tensor, noisy: bool
) -> Iterator[Chunk]:
    """The batches of epoch `epoch` (from 1) in the seed's order; the last one may be smaller.

    images  uint8 [samples, n_{l_max}] and labels int64 [samples], on the device to be trained on
    noisy   whether to draw the noise of condition C1; equal for every sigma of the seed
    """
    order = batch_order(seed, epoch, len(images)).to(images.device)
    source = generator(seed, "noise", epoch)
    hidden = config.widths[-2:0:-1]
    dtype = getattr(torch, config.dtype)
    for updates, size in chunk_sizes(len(images), config.batch_size):
        chosen, order = order[: updates * size], order[updates * size :]
        drawn = [noise(source, size, hidden) for _ in range(updates)] if noisy else []
        yield Chunk(
            pixels(images[chosen], dtype).reshape(updates, size, -1),
            target_values(labels[chosen], config).reshape(updates, size, -1),
            [
                torch.stack(normals).to(device=images.device, dtype=dtype)
                for normals in zip(*drawn, strict=True)
            ],
        )


def chunk_sizes(samples: int, batch_size: int) -> list[tuple[int, int]]:
    """(updates, batch size) of an epoch's chunks: one update, after which weights are first looked
    at, then CHUNK at a time; a smaller last batch by itself."""
    whole, rest = divmod(samples, batch_size)
    sizes = [1] if whole else []
    sizes += [min(CHUNK, whole - done) for done in range(1, whole, CHUNK)]
    return [(updates, batch_size) for updates in sizes] + ([(1, rest)] if rest else [])
