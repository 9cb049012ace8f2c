"""Draws every random number of a trial, by generators derived from (seed, purpose, epoch).

Numbers are drawn on the CPU in float64 and then rounded to the dtype of the trial, so that float32
and float64 trials of one seed are paired. There is no global generator, so a training can be
resumed from its weights and an epoch number alone.
"""

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pcworker.trials.configuration import Configuration

_PIECE = 2**20
"""How many numbers are drawn at once. Drawing a whole large layer of float32 in float64 would
triple the memory that it takes."""


def generator(seed: int, purpose: str, epoch: int = 0) -> torch.Generator:
    """A generator on the CPU whose state depends on (seed, purpose, epoch) alone."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{epoch}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)


def initial_parameters(config: Configuration, seed: int) -> list[list[Tensor]]:
    """Draws theta^{l+1} for l = 0 .. l_max - 1: [weight [n_l, n_{l+1}]], or [weight, bias [n_l]].

    Layers are drawn from the input side to the output side. Biases are 0, except for init
    "linear", which draws them as torch.nn.Linear does. The paper states no initialisation.
    """
    source = generator(seed, "weights")
    parameters = []
    for l in reversed(range(config.l_max)):
        n, m = config.widths[l], config.widths[l + 1]
        glorot = math.sqrt(6 / (n + m))
        bound = {"xavier": glorot, "linear": 1 / math.sqrt(m), "glorot4": 4 * glorot}[config.init]
        layer = [_uniform((n, m), bound, source)]
        if config.bias:
            drawn = config.init == "linear"
            layer.append(_uniform((n,), bound, source) if drawn else torch.zeros(n).double())
        parameters.append([parameter.to(getattr(torch, config.dtype)) for parameter in layer])
    return parameters[::-1]


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
                piece.copy_(_uniform(tuple(piece.shape), bound, source))


def batch_order(seed: int, epoch: int, samples: int) -> Tensor:
    """The order of the training set in epoch `epoch` (the first is 1): indices, int64 [samples]."""
    return torch.randperm(samples, generator=generator(seed, "order", epoch))


def noise(source: torch.Generator, batch: int, widths: Sequence[int]) -> list[Tensor]:
    """Draws standard normals for the hidden layers of one minibatch, for condition C1.

    Returns one float64 tensor [batch, n] for each n in `widths`, in that order.
    """
    return [torch.randn(batch, n, generator=source, dtype=torch.float64) for n in widths]


def _uniform(shape: tuple[int, ...], bound: float, source: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=source, dtype=torch.float64).mul_(2).sub_(1).mul_(bound)
