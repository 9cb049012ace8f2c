"""Every random number of a trial, from generators derived from (seed, purpose, epoch), on the CPU.

Numbers are drawn in float64 and rounded to the trial's dtype, so that float32 and float64 trials
of one seed are paired. Nothing is global, so a training can go on from weights and an epoch number.
"""

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pcworker.trials.configuration import Configuration

_PIECE = 2**20
"""Numbers drawn at once: float64 beside a large layer's float32 would double its memory."""


def generator(seed: int, purpose: str, epoch: int = 0) -> torch.Generator:
    """A generator whose state depends on nothing but (seed, purpose, epoch)."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{epoch}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)


def initial_parameters(config: Configuration, seed: int) -> list[list[Tensor]]:
    """theta^{l+1} for l = 0 .. l_max - 1: [weight [n_l, n_{l+1}]], or [weight, bias [n_l]].

    Drawn from the input side to the output side. Biases are 0, but for init "linear", which draws
    them as torch.nn.Linear does. The paper states no initialisation.
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
    """Initial values for a network of modules, in the order of `network.named_parameters()`.

    Weights and biases of a module are uniform within 1 / sqrt(inputs of one of its units), which is
    the default of torch.nn.Linear and of torch.nn.Conv2d.
    """
    source = generator(seed, "weights")
    for module in network.modules():
        own = list(module.parameters(recurse=False))
        for parameter in own:
            bound = 1 / math.sqrt(own[0][0].numel())
            for piece in torch.split(parameter.flatten(), _PIECE):
                piece.copy_(_uniform(tuple(piece.shape), bound, source))


def batch_order(seed: int, epoch: int, samples: int) -> Tensor:
    """The order in which epoch `epoch` (from 1) goes through the training set: int64 [samples]."""
    return torch.randperm(samples, generator=generator(seed, "order", epoch))


def noise(source: torch.Generator, batch: int, widths: Sequence[int]) -> list[Tensor]:
    """Standard normals for the hidden layers of one batch, for condition C1: one float64
    [batch, n] for each n in `widths`, in that order."""
    return [torch.randn(batch, n, generator=source, dtype=torch.float64) for n in widths]


def _uniform(shape: tuple[int, ...], bound: float, source: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=source, dtype=torch.float64).mul_(2).sub_(1).mul_(bound)
