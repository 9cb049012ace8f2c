"""Makes minibatches of MNIST: pixels in [0, 1], targets and noise, in the order of a seed."""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from pcworker.data.randomness import Noise, batch_order
from pcworker.trials.configuration import Configuration

TARGETS = {"onehot": (0.0, 1.0), "soft": (0.03, 0.97)}
"""The targets (of a wrong class, of the right class) by coding. "soft" is the coding of Whittington
& Bogacz (2017)."""

CHUNK = 100
"""The largest number of updates in a chunk."""


class Batch(NamedTuple):
    """One minibatch of one seed."""

    inputs: Tensor
    """[B, n_{l_max}]"""
    targets: Tensor
    """[B, n_0]"""
    noise: list[Tensor]
    """Standard normals [B, n_l] for l = l_max - 1 .. 1, in that order. The list is empty if no
    noise was asked for."""


class Chunk(NamedTuple):
    """U consecutive minibatches of one seed, all of the same size."""

    inputs: Tensor
    """[U, B, n_{l_max}]"""
    targets: Tensor
    """[U, B, n_0]"""
    noise: list[Tensor]
    """Standard normals [U, B, n_l] for l = l_max - 1 .. 1, in that order. The list is empty if no
    noise was asked for."""

    def batches(self) -> Iterator[Batch]:
        """Yields the minibatches one by one.

        The inputs of each are copied into memory of their own, because the bits of a product may
        depend on where its operands lie in memory.
        """
        for place in range(len(self.inputs)):
            normals = [normal[place] for normal in self.noise]
            yield Batch(self.inputs[place].clone(), self.targets[place], normals)


def pixels(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Converts uint8 [B, pixels] to values in [0, 1]. It divides by 255 and does not normalise."""
    return images.to(dtype).div_(255)


def target_values(labels: Tensor, config: Configuration) -> Tensor:
    """Converts int64 labels [B] to targets [B, n_0], in the target coding of the configuration."""
    low, high = TARGETS[config.targets]
    dtype = getattr(torch, config.dtype)
    targets = torch.full((len(labels), config.widths[0]), low, dtype=dtype, device=labels.device)
    return targets.scatter_(1, labels.unsqueeze(1), high)


def epoch_chunks(
    config: Configuration,
    seed: int,
    epoch: int,
    images: Tensor,
    labels: Tensor,
    noisy: bool,
    done: int = 0,
) -> Iterator[Chunk]:
    """Yields the minibatches of epoch `epoch` (the first is 1) in the order of the seed.

    images  uint8 [samples, n_{l_max}], on the device that trains
    labels  int64 [samples], on the same device
    noisy   whether to draw the noise of condition C1; the standard normals of a seed are the same
            for every sigma
    done    the number of minibatches to leave out at the start; the others are the same

    The last minibatch is smaller if the batch size does not divide the number of samples.
    """
    noise = Noise(seed, epoch, config.widths[-2:0:-1])
    noise.skip(done * config.batch_size)
    dtype = getattr(torch, config.dtype)
    for order in epoch_orders(len(images), config.batch_size, seed, epoch, done):
        (updates, size), chosen = order.shape, order.reshape(-1).to(images.device)
        yield Chunk(
            pixels(images[chosen], dtype).reshape(updates, size, -1),
            target_values(labels[chosen], config).reshape(updates, size, -1),
            [
                normals.to(device=images.device, dtype=dtype).contiguous()
                for normals in (noise.draw(updates, size) if noisy else [])
            ],
        )


def epoch_orders(
    samples: int, batch_size: int, seed: int, epoch: int, done: int = 0
) -> Iterator[Tensor]:
    """Yields which samples are in the minibatches of each chunk, without the first `done`
    minibatches: int64 [updates, batch size]."""
    order = batch_order(seed, epoch, samples)[done * batch_size :]
    for updates, size in chunk_sizes(samples, batch_size, done):
        chosen, order = order[: updates * size], order[updates * size :]
        yield chosen.reshape(updates, size)


def chunk_sizes(samples: int, batch_size: int, done: int = 0) -> list[tuple[int, int]]:
    """The chunks of an epoch after its first `done` updates, in order, as pairs (updates, batch
    size). They end where those of the whole epoch end.

    The first chunk has one update, so that non-finite weights are found early. The others have at
    most CHUNK updates. A smaller last minibatch is a chunk of its own.
    """
    whole, rest = divmod(samples, batch_size)
    ends = sorted({*range(1, whole, CHUNK), whole, updates_of_epoch(samples, batch_size)})
    return [
        (end - start, batch_size if end <= whole else rest)
        for start, end in pairwise([done, *(end for end in ends if end > done)])
    ]


def updates_of_epoch(samples: int, batch_size: int) -> int:
    """The number of weight updates of an epoch."""
    return -(-samples // batch_size)


def weights_are_checked(done: int) -> bool:
    """True if training looks for non-finite weights after `done` updates of an epoch.

    It does so after the first update and after every CHUNK updates more, where a chunk ends, and at
    the end of the epoch. The number of updates of a non-finite trial, which is stored, depends on
    it.
    """
    return done % CHUNK == 1
