"""The layerwise schedule of Z-IL: a sweep from the output to the inputs, in one run of autograd.

A vertex learns at the step at which all of its error arrives, and until then its error is exactly 0
(Lemma A3 of the paper). So each vertex is computed once, in the reverse of the order of execution.
That is the order in which autograd runs, with a boundary at each activity, where x moves. Identity
vertices only delay what they bring, so there are none, and a sweep costs what BP costs.
"""

import copy
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, fx

from pcworker.equations.layout import laid_out
from pcworker.networks.graph.divide import Divided
from pcworker.networks.graph.state import require_same_shape
from pcworker.networks.graph.trace import operations_of


class Layerwise:
    """A network that runs forwards once and backwards once in an update."""

    def __init__(self, network: Divided) -> None:
        self._parameters = network.parameters
        self._module = _with_boundaries(network)
        self._changes: tuple[Tensor | None, ...] = ()
        # The last changes are kept until the next update, as BP keeps its gradients. The C library
        # would give free memory back, and take it anew page by page (ResNet-18: 14 % more time).

    def update(
        self, inputs: Sequence[Tensor], targets: Tensor, rate: float, gamma: float
    ) -> Tensor:
        """Makes one weight update, and returns the output errors: see `GraphNetwork.update`."""
        self._changes = ()
        with torch.enable_grad():
            mu = self._module(Boundaries(gamma), *inputs)
        require_same_shape(mu, targets)
        eps: Tensor = targets - mu.detach()
        if not mu.requires_grad:  # A detach() lies between the weights and the output.
            return eps
        self._changes = torch.autograd.grad(mu, self._parameters, eps, allow_unused=True)
        for parameter, change in zip(self._parameters, self._changes, strict=True):
            if change is not None:
                parameter.add_(change, alpha=rate)  # theta += alpha (d mu / d theta)^T eps (Eq. 9)
        return eps


class Boundaries:
    """What is done at the activities in one sweep."""

    def __init__(self, gamma: float) -> None:
        self._gamma, self._move = gamma, partial(_moved, gamma=gamma)
        self._made: dict[int, Tensor] = {}  # the activities, by the id of the tensor

    def activity(self, mu: Tensor) -> Tensor:
        """The activity of a vertex, x = mu, which moves when its error arrives."""
        if not mu.requires_grad:  # Nothing that leads to it learns.
            return mu
        # Dropout in evaluation, for example, returns the very tensor that it reads.
        x = mu.view_as(mu) if mu.is_leaf or id(mu) in self._made else mu
        x.register_hook(self._move)  # type: ignore[no-untyped-call]
        self._made[id(x)] = x
        return x

    def delayed(self, x: Tensor, steps: int) -> Tensor:
        """An activity as an operation reads it through this number of identity vertices."""
        if self._gamma == 1 or not x.requires_grad:
            return x
        read = x.view_as(x)
        for _ in range(steps):
            read.register_hook(self._move)  # type: ignore[no-untyped-call]
        return read


def _moved(pulled: Tensor, gamma: float) -> Tensor:
    """The error of a vertex after what its children pull back has arrived, if it was 0 before.

    x += gamma (pulled - eps) and eps = x - mu, where mu stands still, make eps = gamma pulled. By
    the displacement arithmetic that is so without a rounding of x.                  (Eq. 5, 7)
    """
    # A product with 1 changes no bit. Such products took 9 to 13 % of an update of small networks,
    # and 24 % of one with many small vertices (an LSTM).
    return pulled if gamma == 1 else laid_out(pulled * gamma, pulled)


def _with_boundaries(network: Divided) -> fx.GraphModule:
    """The network with one more argument, the first: the `Boundaries`, which are called at every
    hidden activity, and wherever an operation reads one through identity vertices."""
    graph, structure = copy.deepcopy(network.root.graph), network.graph
    nodes = {node.name: node for node in graph.nodes}
    with graph.inserting_before(next(iter(graph.nodes))):
        boundaries = graph.placeholder("boundaries")
    boundaries.target = boundaries.name  # Another argument may have the name.
    placed = operations_of(graph)
    for name in structure.vertices[:-1]:
        mu = nodes[name]
        with graph.inserting_after(mu):
            x = graph.call_method("activity", (boundaries, mu))
        mu.replace_all_uses_with(x, lambda user, x=x: user is not x)
        for use in structure.used[name]:
            if steps := structure.delay(use):
                with graph.inserting_before(placed[use.place]):
                    late = graph.call_method("delayed", (boundaries, x, steps))
                placed[use.place].replace_input_with(x, late)
    return fx.GraphModule(network.root, graph)
