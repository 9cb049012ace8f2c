"""Draws every random number of a trial, from the streams of (seed, purpose, epoch).

Numbers are drawn in float64 and then rounded to the dtype of the trial, so that float32 and float64
trials of one seed are paired. There is no global generator, so a training can be resumed from its
weights and an epoch number alone.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pcworker.data.streams import Stream, order_of
from pcworker.trials.configuration import Configuration


def initial_parameters(config: Configuration, seed: int) -> list[list[Tensor]]:
    """Draws theta^{l+1} for l = 0 .. l_max - 1: [weight [n_l, n_{l+1}]], or [weight, bias [n_l]].

    Layers are drawn from the input side to the output side. Biases are 0, except for init
    "linear", which draws them as torch.nn.Linear does. The paper states no initialisation.
    """
    source = Stream(seed, "weights")
    parameters = []
    for l in reversed(range(config.l_max)):
        n, m = config.widths[l], config.widths[l + 1]
        glorot = math.sqrt(6 / (n + m))
        bound = {"xavier": glorot, "linear": 1 / math.sqrt(m), "glorot4": 4 * glorot}[config.init]
        layer = [torch.from_numpy(source.uniform(n * m, bound)).reshape(n, m)]
        if config.bias:
            drawn = config.init == "linear"
            layer.append(
                torch.from_numpy(source.uniform(n, bound)) if drawn else torch.zeros(n).double()
            )
        parameters.append([parameter.to(getattr(torch, config.dtype)) for parameter in layer])
    return parameters[::-1]


def batch_order(seed: int, epoch: int, samples: int) -> Tensor:
    """The order of the training set in epoch `epoch` (the first is 1): indices, int64 [samples]."""
    return torch.from_numpy(order_of(seed, epoch, samples))


class Noise:
    """The standard normals of an epoch, for condition C1. Every sigma of a seed has the same."""

    def __init__(
        self, seed: int, epoch: int, widths: Sequence[int], stream: type[Stream] = Stream
    ) -> None:
        """
        widths  those of the hidden layers, n_l for l = l_max - 1 .. 1
        stream  the class that draws
        """
        self._source, self._widths = stream(seed, "noise", epoch), widths

    def skip(self, samples: int) -> None:
        """Goes on as if the normals of so many samples had been drawn."""
        self._source.skip(samples * sum(self._widths))

    def draw(self, updates: int, batch: int) -> list[Tensor]:
        """The normals of the next updates: float64 [updates, batch, n_l] for each hidden layer, in
        the order of `widths`."""
        units = sum(self._widths)
        drawn = torch.from_numpy(self._source.normals(updates * batch * units))
        layers = torch.split(
            drawn.reshape(updates, batch * units), [batch * n for n in self._widths], dim=1
        )
        return [
            layer.reshape(updates, batch, n) for layer, n in zip(layers, self._widths, strict=True)
        ]
