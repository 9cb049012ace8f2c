"""Inference and learning in a predictive coding network: Eq. 5-9 of Song et al. (2020).

    mu^l_t    = theta^{l+1} f(x^{l+1}_t)                                              (Eq. 5)
    eps^l_t   = x^l_t - mu^l_t            with x^0 = s_out while learning             (Eq. 5, 8)
    F_t       = sum_l 1/2 |eps^l_t|^2, summed over the batch                          (Eq. 6)
    x^l_{t+1} = x^l_t + gamma (f'(x^l_t) * (theta^l)^T eps^{l-1}_t - eps^l_t)         (Eq. 7)
    theta^{l+1} += alpha eps^l_t f(x^{l+1}_t)^T, where the rule fires at t            (Eq. 9)

Layers count from the output (l = 0) to the input (l = l_max). A step computes everything from
values of time t, and then changes activities and weights at once (Jacobi). With new weights in
Eq. 7, or new activities in Eq. 9, Z-IL would not be backpropagation.

A layer knows what it is (`layers`), and an activity how it is held (`activity`). Shapes: in a stack
of R trials, with B samples and n_l units, every activity is [R, B, n_l]. In a network of modules,
which is one trial, it is [B, ...].
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pcworker.equations.activity import Activity
from pcworker.equations.layers import Layer
from pcworker.equations.phi import Detector
from pcworker.equations.schedule import Step


@dataclass
class State:
    """Everything that inference reads and writes, for all trials of a stack or for some of them.

    Lists are indexed by the layer l. A part of a state shares its memory. Slicing the tensors once,
    and not in every operation, halves the time of a small stack.
    """

    layers: list[Layer]
    """layers[l] predicts layer l."""
    activity: list[Activity]
    fx: list[Tensor]
    """f(x^l), or x^l where the layer applies f itself. fx[l_max] is the input, and fx[0] is not
    used."""
    mu: list[Tensor]
    eps: list[Tensor]
    phi: list[Tensor]
    """bool, like eps."""
    detector: list[Detector]
    buffer: list[Tensor | None]
    """Memory for intermediate values. None: it is made when it is needed."""
    gamma: Tensor | float
    """[R, 1, 1], or the number of one trial."""

    @property
    def inputs(self) -> Tensor:
        """The input of the network, into which a stack puts each minibatch."""
        return self.fx[-1]

    def part(self, trials: slice) -> "State":
        """The state of some of the trials."""
        cut = {
            name: [each[trials] for each in getattr(self, name)]
            for name in ("fx", "mu", "eps", "phi")
        }
        return State(
            layers=[layer.part(trials) for layer in self.layers],
            activity=[activity.part(trials) for activity in self.activity],
            detector=[detector.part(trials) for detector in self.detector],
            buffer=[None if each is None else each[trials] for each in self.buffer],
            gamma=self.gamma[trials] if isinstance(self.gamma, Tensor) else self.gamma,
            **cut,
        )

    def activate(self, l: int) -> None:
        """f(x^l)"""
        x = self.activity[l].value(out=self.buffer[l])
        self.fx[l] = self.layers[l - 1].activate(x, out=self.fx[l])

    def predict(self, l: int) -> None:
        """mu^l = theta^{l+1} f(x^{l+1})                                              (Eq. 5)"""
        self.mu[l] = self.layers[l].predict(self.fx[l + 1], out=self.mu[l])

    def compare(self, l: int) -> None:
        """eps^l = x^l - mu^l                                                      (Eq. 5, 8)"""
        self.eps[l] = self.activity[l].error(self.mu[l], out=self.eps[l])

    def listen(self, l: int) -> None:
        """phi = 1 where eps^l was exactly 0 for the t_d steps before and now is not  (Sec. 4)"""
        self.phi[l] = self.detector[l].listen(self.eps[l])

    def move(self, l: int, learns: bool) -> None:
        """x^l += gamma (f'(x^l) * (theta^l)^T eps^{l-1} - eps^l)                       (Eq. 7)

        The product with gamma and the sum are rounded one after the other, for every element. A
        fused multiply-add, which some elements of a buffer would get and others not, would make a
        value depend on its place.

        learns  whether theta^l learns from the same eps^{l-1} at this step
        """
        below, buffer = self.layers[l - 1], self.buffer[l]
        pulled = below.pull_back(self.eps[l - 1], self.fx[l], buffer, learns)
        change = torch.sub(pulled, self.eps[l], out=buffer)
        self.activity[l].move(change.mul_(self.gamma))

    def learn(self, l: int, rate: float, gated: bool) -> None:
        """theta^{l+1} += rate eps^l f(x^{l+1})^T; gated: only where phi = 1            (Eq. 9)"""
        eps = self.eps[l].where(self.phi[l], 0.0) if gated else self.eps[l]
        self.layers[l].learn(eps, self.fx[l + 1], rate)


class Inference:
    """Runs inference in a stack, or in a network of modules, on minibatches of one size."""

    def __init__(self, state: State, trials: int, gated: bool) -> None:
        """
        state   the state of all trials together
        trials  the number of trials
        gated   whether phi gates any trial's weight updates (Fa-Z-IL)
        """
        self.state = state
        self._gated = gated
        self._parts = {(0, trials): state}

    def start(self, targets: Tensor, shifts: Sequence[Tensor] | None) -> Tensor:
        """Sets the state of t = 0, from the input side to the output side.

        targets  the clamped x^0, of the shape of mu^0
        shifts   by l, of the shape of mu^l: the difference of x^l_0 from mu^l_0 in hidden layers.
                 None: 0 in all of them, so that C1 holds. shifts[0] is not used.

        Returns the output errors s_out - mu^0.
        """
        state = self.state
        for l in reversed(range(len(state.layers))):
            state.predict(l)
            if l > 0:
                state.activity[l].start(state.mu[l], None if shifts is None else shifts[l])
                state.activate(l)
        state.activity[0].clamp(state.mu[0], targets)
        if self._gated:
            for detector in state.detector:
                detector.start()
        return targets - state.mu[0]

    def step(self, step: Step, rate: float) -> None:
        """Makes one inference step. `rate` is the learning rate of a sum over the batch."""
        for l, start, stop, _ in step.activate:
            self._part(start, stop).activate(l)
        for l, start, stop, _ in step.predict:
            self._part(start, stop).predict(l)
        for l, start, stop, _ in step.compare:
            self._part(start, stop).compare(l)
        for l, start, stop, _ in step.listen:
            self._part(start, stop).listen(l)
        for l, start, stop, _ in step.move:
            self._part(start, stop).move(l, l - 1 in step.shared)
        for l, start, stop, gated in step.learn:
            self._part(start, stop).learn(l, rate, gated)

    def _part(self, start: int, stop: int) -> State:
        part = self._parts.get((start, stop))
        if part is None:
            part = self._parts[start, stop] = self.state.part(slice(start, stop))
        return part
