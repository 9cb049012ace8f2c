"""Makes the networks that are timed: each learns one minibatch at a time, by one rule."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from jobs.imagenet_timing.configuration import TimingConfiguration
from pcworker.data.images import Minibatch
from pcworker.equations.rules import RULES
from pcworker.errors import LackingError, first_line
from pcworker.networks.captured import captured
from pcworker.networks.method import Method
from pcworker.networks.sequential import predictive

Energy = Callable[[nn.Sequential, Minibatch], Tensor]


class Learner(Protocol):
    """A network that learns by one rule."""

    def update(self, batch: Minibatch) -> None:
        """Makes one weight update."""

    def rest(self) -> None:
        """Frees everything except the weights."""


def output_energy(network: nn.Sequential, batch: Minibatch) -> Tensor:
    """E = 1/2 sum (s_out - y^0)^2, summed over the batch and the outputs (Eq. 2)."""
    errors: Tensor = batch.targets - network(batch.inputs)
    return 0.5 * (errors * errors).sum()


def compiled_energy(network: nn.Sequential, example: Minibatch) -> Energy:
    """`output_energy` for minibatches of the shape of `example`. torch.compile has compiled its
    forward and its backward pass, without a change of the weights.

    Raises LackingError if torch.compile does not work here.
    """
    # torch keeps 8 versions of a function, and one for any shape would be slower
    torch.compiler.reset()
    compiled: Energy = torch.compile(output_energy, fullgraph=True)
    try:
        torch.autograd.grad(compiled(network, example), list(network.parameters()))
    except torch._dynamo.exc.TorchDynamoException as error:
        raise LackingError(
            f"execution compiled: torch.compile does not work here ({first_line(error)}); install "
            "the compiler that it needs, or leave compiled out of --executions"
        ) from error
    return compiled


class BackpropLearner:
    """BP in its usual form: torch.autograd and torch.optim.SGD on an energy (Eq. 2, 3). The modules
    of the network work in place if they are made so."""

    def __init__(self, network: nn.Sequential, rate: float, energy: Energy = output_energy) -> None:
        self._network, self._energy = network, energy
        self._optimiser = torch.optim.SGD(network.parameters(), lr=rate)

    def update(self, batch: Minibatch) -> None:
        self._optimiser.zero_grad()
        self._energy(self._network, batch).backward()  # type: ignore[no-untyped-call]
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


class GraphLearner:
    """A learner whose whole weight update is one CUDA graph, captured at the first update. The
    graph learns from memory of its own, into which each minibatch is copied."""

    def __init__(
        self,
        inner: Learner,
        network: nn.Sequential,
        example: Minibatch,
        capture: Callable[..., Callable[[], None]] = captured,
    ) -> None:
        """
        example  a minibatch of the shape of all
        capture  makes a call that repeats the update, see `captured`
        """
        self._inner, self._parameters, self._capture = inner, list(network.parameters()), capture
        self._batch = Minibatch(*(torch.empty_like(part) for part in example))
        self._replay: Callable[[], None] | None = None

    def update(self, batch: Minibatch) -> None:
        for memory, values in zip(self._batch, batch, strict=True):
            memory.copy_(values)
        if self._replay is None:
            work = partial(self._inner.update, self._batch)
            self._replay = self._capture(work, self._parameters, self._inner.rest)
        self._replay()

    def rest(self) -> None:
        self._replay = None
        self._inner.rest()


def learner(config: TimingConfiguration, network: nn.Sequential, example: Minibatch) -> Learner:
    """Makes the learner of a configuration, which moves the weights of `network`.

    example  a minibatch of the shape of all

    Raises LackingError if the update is to be compiled, and torch.compile does not work here.
    """
    made = _learner(config, network, example)
    return GraphLearner(made, network, example) if config.execution == "graph" else made


def _learner(config: TimingConfiguration, network: nn.Sequential, example: Minibatch) -> Learner:
    if config.execution == "compiled":
        return BackpropLearner(network, config.alpha, compiled_energy(network, example))
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
