"""Makes the networks that are timed: each learns one minibatch at a time, by one rule."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from jobs.imagenet_timing.configuration import TimingConfiguration
from pcworker.data.images import Minibatch
from pcworker.equations.rules import RULES
from pcworker.networks.method import Method
from pcworker.networks.sequential import predictive


class Learner(Protocol):
    """A network that learns by one rule."""

    def update(self, batch: Minibatch) -> None:
        """Makes one weight update."""

    def rest(self) -> None:
        """Frees everything except the weights."""


class BackpropLearner:
    """BP in its usual form: torch.autograd and torch.optim.SGD on E = 1/2 sum (s_out - y^0)^2,
    summed over the batch and the outputs (Eq. 2, 3). The modules of the network work in place if
    they are made so."""

    def __init__(self, network: nn.Sequential, rate: float) -> None:
        self._network = network
        self._optimiser = torch.optim.SGD(network.parameters(), lr=rate)

    def update(self, batch: Minibatch) -> None:
        self._optimiser.zero_grad()
        errors = batch.targets - self._network(batch.inputs)
        (0.5 * (errors * errors).sum()).backward()
        self._optimiser.step()

    def rest(self) -> None:
        self._optimiser.zero_grad()


class PredictiveLearner:
    """A rule of predictive coding. It moves the weights of the given network itself."""

    def __init__(self, network: nn.Sequential, rate: float, method: Method) -> None:
        self._network, self._rate, self._method = predictive(network), rate, method

    def update(self, batch: Minibatch) -> None:
        self._network.update(batch.inputs, batch.targets, self._rate, self._method)

    def rest(self) -> None:
        """Does nothing: between two updates, only the weights are kept."""


def learner(config: TimingConfiguration, network: nn.Sequential) -> Learner:
    """Makes the learner of a configuration, which moves the weights of `network`."""
    if not RULES[config.rule].infers:
        return BackpropLearner(network, config.alpha)
    method = Method(
        rule=config.rule,
        t=config.t,
        gamma=config.gamma or 1.0,
        t_d=config.t_d or 1,
        horizon=config.horizon,
        schedule=str(config.schedule),
        arithmetic=str(config.arithmetic),
    )
    return PredictiveLearner(network, config.alpha, method)


def named_parameters(network: nn.Sequential) -> list[list[tuple[str, Tensor]]]:
    """The parameters theta^{l+1} for l = 0 .. l_max - 1, each as [("weight", ...), ("bias", ...)].

    The network is cut into layers as `predictive` cuts it.
    """
    return [_of(module) for module in predictive(network).modules]


def _of(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [(name.rpartition(".")[2], p.detach()) for name, p in module.named_parameters()]


def layer_distance(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> tuple[float, float]:
    """The L2 norm and the largest absolute value of the difference of a layer's parameters.

    Both are computed in float64. The parameters must be finite.
    """
    squares, largest = 0.0, 0.0
    for a, b in zip(ours, theirs, strict=True):
        # in pieces, because a float64 copy of a whole large layer would need too much memory
        for x, y in zip(_pieces(a), _pieces(b), strict=True):
            apart = x.double() - y.double()
            squares += float((apart * apart).sum())
            largest = max(largest, float(apart.abs().max()))
    return squares**0.5, largest


def _pieces(values: Tensor) -> Sequence[Tensor]:
    return torch.split(values.flatten(), 2**22)
