"""Draws the random numbers of the timing runs, by torch's generators, from (seed, purpose, epoch).

Numbers are drawn on the CPU in float64 and then rounded. There is no global generator.
"""

import hashlib
import math

import torch
from torch import Tensor, nn

_PIECE = 2**20
"""How many numbers are drawn at once. Drawing a whole large layer of float32 in float64 would
triple the memory that it takes."""


def generator(seed: int, purpose: str, epoch: int = 0) -> torch.Generator:
    """A generator on the CPU whose state depends on (seed, purpose, epoch) alone."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{epoch}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)


@torch.no_grad()
def draw_parameters(network: nn.Module, seed: int) -> None:
    """Draws the initial parameters of a network of modules, in place.

    The order is that of `network.named_parameters()`. The weights and biases of a module are
    uniform in +-1 / sqrt(number of inputs of one unit), which is the default of torch.nn.Linear and
    of torch.nn.Conv2d.
    """
    source = generator(seed, "weights")
    for module in network.modules():
        own = list(module.parameters(recurse=False))
        for parameter in own:
            bound = 1 / math.sqrt(own[0][0].numel())
            for piece in torch.split(parameter.flatten(), _PIECE):
                drawn = torch.rand(piece.shape, generator=source, dtype=torch.float64)
                piece.copy_(drawn.mul_(2).sub_(1).mul_(bound))


def image_order(seed: int, epoch: int, samples: int) -> Tensor:
    """The order of the images in epoch `epoch` (the first is 1): indices, int64 [samples]."""
    return torch.randperm(samples, generator=generator(seed, "order", epoch))
