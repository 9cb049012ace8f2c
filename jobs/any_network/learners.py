"""Makes what is compared: a network that learns by backpropagation, or by a rule of inference."""

from typing import Protocol

import torch
from torch import Tensor, nn

from jobs.any_network.configuration import NetworkConfiguration
from pcworker.data.generators import generator
from pcworker.data.images import Minibatch
from pcworker.networks.graph.network import GraphNetwork
from pcworker.networks.method import Method


class Learns(Protocol):
    """A network that learns."""

    def update(self, batch: Minibatch) -> None:
        """Makes one weight update."""


class ByBackprop:
    """torch.autograd and torch.optim.SGD on E = 1/2 sum (s_out - mu)^2 (Eq. 2, 3), as they are."""

    def __init__(self, network: nn.Module, rate: float) -> None:
        self._network = network
        self._optimiser = torch.optim.SGD(network.parameters(), lr=rate)

    def update(self, batch: Minibatch) -> None:
        """Makes one weight update."""
        self._optimiser.zero_grad()
        errors = batch.targets - self._network(batch.inputs)
        (0.5 * (errors * errors).sum()).backward()
        self._optimiser.step()


class ByInference:
    """A rule of predictive coding on the graph of a network, whose weights it moves."""

    def __init__(self, graph: GraphNetwork, config: NetworkConfiguration, seed: int) -> None:
        """
        seed  that of the noise with which the hidden activities start
        """
        self._graph, self._rate, self._method = graph, config.rate, _method(config)
        self._source = generator(seed, "noise")

    def update(self, batch: Minibatch) -> None:
        """Makes one weight update. Noise is drawn as a part of it."""
        noise = self._noise(batch.inputs) if self._method.sigma else None
        self._graph.update(batch.inputs, batch.targets, self._rate, self._method, noise)

    def _noise(self, inputs: Tensor) -> dict[str, Tensor]:
        """Standard normals for each hidden activity. They do not depend on the device."""
        *hidden, _ = self._graph.activities(inputs).items()
        return {
            name: torch.randn(x.shape, generator=self._source, dtype=torch.float64).to(x)
            for name, x in hidden
        }


def _method(config: NetworkConfiguration) -> Method:
    """The rule of a configuration with its parameters."""
    return Method(
        rule=config.rule,
        t=config.t,
        gamma=config.gamma or 1.0,
        sigma=config.sigma or 0.0,
        t_d=config.t_d or 1,
        schedule=str(config.schedule),
        arithmetic=str(config.arithmetic),
    )
