"""The state of a graph of vertices, and the equations by which it moves.

    mu_i   = g_i(x_j for the parents j of i; theta_i)                                     (Eq. 5)
    eps_i  = x_i - mu_i, with x = s_out in the output vertex while learning               (Eq. 5, 8)
    x_i   += gamma (sum over the children c of (d mu_c / d x_i)^T eps_c - eps_i)          (Eq. 7)
    theta_i += alpha (d mu_i / d theta_i)^T eps_i, where the rule fires                   (Eq. 9)

In a chain, these are the equations of `pcworker.equations.inference`. An identity vertex has
g(x) = x: its error reaches its parent one step later, unchanged if gamma is 1.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pcworker.equations.activity import Activity, fresh
from pcworker.equations.layout import laid_out
from pcworker.equations.phi import FreshDetector
from pcworker.errors import InputError
from pcworker.networks.graph.divide import Divided
from pcworker.networks.graph.structure import Use
from pcworker.networks.method import Method


class GraphState:
    """Everything that inference reads and writes."""

    def __init__(self, network: Divided, inputs: Mapping[str, Tensor], method: Method) -> None:
        names = network.graph.vertices
        self.gamma = method.gamma
        self.mu: dict[str, Tensor] = {}
        self.eps: dict[str, Tensor | None] = {}
        """None stands for an error that is known to be exactly 0."""
        self.activity: dict[str, Activity] = {name: fresh(method.arithmetic) for name in names}
        self.lines: Mapping[Use, DelayLine] = {}
        """The identity vertices; none in a sweep."""
        self._detector = {name: FreshDetector(method.t_d) for name in names}
        self._network, self._inputs = network, inputs
        self._read = {
            name: [use for use in network.graph.uses if use.child == name] for name in names
        }

    def start(self, targets: Tensor, shifts: Mapping[str, Tensor]) -> Tensor:
        """Sets the state of t = 0. Returns the output errors. `shifts` holds x_0 - mu_0 of hidden
        vertices; where there is none, it is 0 (C1)."""
        *hidden, output = self._network.graph.vertices
        for name in hidden:
            self.predict(name)
            self.activity[name].start(self.mu[name], shifts.get(name))
        self.predict(output)
        require_same_shape(outputs := self.mu[output], targets)
        self.activity[output].clamp(outputs, targets)
        for detector in self._detector.values():
            detector.start()
        return targets - outputs

    def value(self, name: str) -> Tensor:
        return self.activity[name].value(out=None)

    def predict(self, name: str) -> None:
        """mu_i = g_i(x_parents(i))                                                      (Eq. 5)"""
        lines = self.lines
        values = {
            use: lines[use].value if use in lines else self.value(use.parent)
            for use in self._read[name]
        }
        self.mu[name] = self._network.vertices[name].predict(values, {**self.mu, **self._inputs})

    def compare(self, name: str) -> None:
        """eps_i = x_i - mu_i                                                         (Eq. 5, 8)"""
        mu = self.mu[name]
        self.eps[name] = self.activity[name].error(mu, out=mu)

    def compare_all(self) -> None:
        """The same for every vertex, those of the delay lines included."""
        for name in self.activity:
            self.compare(name)
        for line in self.lines.values():
            line.compare()

    def error(self, name: str) -> Tensor:
        """eps of a vertex that was compared."""
        eps = self.eps[name]
        assert eps is not None, "a vertex is compared before its error is used"
        return eps

    def taught(self, name: str, gated: bool) -> Tensor:
        """The error from which the weights learn: with `gated`, only where phi = 1."""
        eps = self.error(name)
        return eps.where(self._detector[name].listen(eps), 0.0) if gated else eps

    def move(self, name: str, pulled: Sequence[Tensor]) -> None:
        """x_i += gamma (sum of what is pulled back - eps_i)                             (Eq. 7)

        pulled  in the order in which they are added
        """
        move(self.activity[name], pulled, self.eps[name], self.gamma)


class DelayLine:
    """The identity vertices between an activity and an operation that reads it: each predicts what
    the one above it holds."""

    def __init__(self, length: int, method: Method, state: GraphState, use: Use) -> None:
        self._state, self._parent, self._gamma = state, use.parent, method.gamma
        self._activities = [fresh(method.arithmetic) for _ in range(length)]
        self._eps: list[Tensor] = []
        for activity in self._activities:
            activity.start(state.value(use.parent), None)

    @property
    def value(self) -> Tensor:
        """The activity that the operation reads."""
        if not self._activities:
            return self._state.value(self._parent)
        return self._activities[-1].value(out=None)

    def compare(self) -> None:
        """eps = x - mu of each vertex, where mu is the activity above it."""
        above = [self._state.value(self._parent), *(a.value(out=None) for a in self._activities)]
        pairs = zip(self._activities, above, strict=False)
        self._eps = [activity.error(mu, out=mu) for activity, mu in pairs]

    def move(self, pulled: Tensor | None) -> Tensor | None:
        """Moves each vertex by the error below it. Returns the one that reaches the activity."""
        if not self._activities:
            return pulled
        below = [*self._eps[1:], pulled]
        for activity, eps, arriving in zip(self._activities, self._eps, below, strict=True):
            move(activity, [] if arriving is None else [arriving], eps, self._gamma)
        return self._eps[0]


def require_same_shape(outputs: Tensor, targets: Tensor) -> None:
    """Raises InputError if the targets have another shape than the network's output, or are no
    numbers."""
    if targets.dtype is torch.bool:
        raise InputError("targets of true and false: give numbers, for example by targets.float()")
    if targets.shape != outputs.shape:
        raise InputError(
            f"targets of the shape {tuple(targets.shape)}: the network's output is "
            f"{tuple(outputs.shape)}; give a target for every output, one-hot for classes"
        )


def move(activity: Activity, pulled: Sequence[Tensor], eps: Tensor | None, gamma: float) -> None:
    """x += gamma (sum of what is pulled back - eps), added one after the other            (Eq. 7)

    eps  None if it is exactly 0
    """
    arrived = None
    for each in pulled:
        arrived = each if arrived is None else arrived + each
    if arrived is None:
        if eps is not None:
            activity.move(-eps * gamma)
        return
    total = arrived if eps is None else arrived - eps
    activity.move(laid_out(total * gamma, arrived))
