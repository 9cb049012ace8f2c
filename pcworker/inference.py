"""Inference and learning in a predictive coding network: Eq. 5-9 of Song et al. (2020).

    mu^l_t    = theta^{l+1} f(x^{l+1}_t)                                              (Eq. 5)
    eps^l_t   = x^l_t - mu^l_t            with x^0 = s_out while learning             (Eq. 5, 8)
    F_t       = sum_l 1/2 |eps^l_t|^2, summed over the batch                          (Eq. 6)
    x^l_{t+1} = x^l_t + gamma (f'(x^l_t) * (theta^l)^T eps^{l-1}_t - eps^l_t)         (Eq. 7)
    theta^{l+1} += alpha eps^l_t f(x^{l+1}_t)^T, where the rule fires at t            (Eq. 9)

Layers count from the output (l = 0) to the input (l = l_max). A step computes everything from
time-t values and then changes activities and weights at once (Jacobi): with new weights in Eq. 7,
or new activities in Eq. 9, Z-IL would not be backpropagation.

Shapes: R trials in the stack, B samples, n_l units: every activity is [R, B, n_l].
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pcworker.layers import Dense
from pcworker.schedule import Step


class Activity(Protocol):
    """How the activity x^l of a layer is held, and with it what eps = x - mu rounds to."""

    def part(self, trials: slice) -> "Activity":
        """The same activity, of some of the trials."""

    def start(self, mu: Tensor, shift: Tensor | None) -> None:
        """x^l_0 = mu^l_0 + shift (None: 0, condition C1)."""

    def clamp(self, mu: Tensor, x: Tensor) -> None:
        """x^l_0 is given; its prediction is `mu`."""

    def value(self, out: Tensor) -> None:
        """out = x^l"""

    def error(self, mu: Tensor, out: Tensor) -> None:
        """out = x^l - mu^l"""

    def move(self, change: Tensor) -> None:
        """x^l += change"""


class Displacement:
    """x = a + d, with the anchor a = mu at t = 0 and the displacement d = x - a.

    eps = d - (mu - a): until an error reaches the layer mu is a, bit for bit, and eps is d without
    a rounding. In the paper's own form, (mu + d) - mu, the last bits of d are lost.
    """

    def __init__(self, anchor: Tensor, displacement: Tensor) -> None:
        self._a, self._d = anchor, displacement

    def part(self, trials: slice) -> "Displacement":
        return Displacement(self._a[trials], self._d[trials])

    def start(self, mu: Tensor, shift: Tensor | None) -> None:
        self._a.copy_(mu)
        self._d.zero_() if shift is None else self._d.copy_(shift)

    def clamp(self, mu: Tensor, x: Tensor) -> None:
        self._a.copy_(mu)
        torch.sub(x, mu, out=self._d)

    def value(self, out: Tensor) -> None:
        torch.add(self._a, self._d, out=out)

    def error(self, mu: Tensor, out: Tensor) -> None:
        torch.sub(mu, self._a, out=out)
        torch.sub(self._d, out, out=out)

    def move(self, change: Tensor) -> None:
        self._d.add_(change)


class Textbook:
    """x itself, as the paper and other implementations have it: eps = x - mu."""

    def __init__(self, x: Tensor) -> None:
        self._x = x

    def part(self, trials: slice) -> "Textbook":
        return Textbook(self._x[trials])

    def start(self, mu: Tensor, shift: Tensor | None) -> None:
        self._x.copy_(mu) if shift is None else torch.add(mu, shift, out=self._x)

    def clamp(self, mu: Tensor, x: Tensor) -> None:
        del mu
        self._x.copy_(x)

    def value(self, out: Tensor) -> None:
        out.copy_(self._x)

    def error(self, mu: Tensor, out: Tensor) -> None:
        torch.sub(self._x, mu, out=out)

    def move(self, change: Tensor) -> None:
        self._x.add_(change)


def new_activity(arithmetic: str, like: Tensor) -> Activity:
    """An activity of the shape of `like`: "displacement" or "textbook"."""
    if arithmetic == "textbook":
        return Textbook(torch.zeros_like(like))
    return Displacement(torch.zeros_like(like), torch.zeros_like(like))


@dataclass
class State:
    """Everything that inference reads and writes, of all trials of a stack or of some.

    Lists are indexed by the layer l; each tensor is [R, B, n_l]. A part of a state shares its
    memory: slicing it once, and not in every operation, halves the time of a small stack.
    """

    layers: list[Dense]
    """layers[l] predicts layer l."""
    activity: list[Activity]
    fx: list[Tensor]
    """f(x^l); fx[l_max] is the input itself, and fx[0] is not used."""
    mu: list[Tensor]
    eps: list[Tensor]
    phi: list[Tensor]
    quiet: list[Tensor]
    """int32: for how many steps in a row eps^l has been exactly 0."""
    buffer: list[Tensor]
    gamma: Tensor
    """[R, 1, 1]"""
    t_d: Tensor
    """[R, 1, 1], int32"""

    def part(self, trials: slice) -> "State":
        """The state of some of the trials."""
        cut = {
            name: [each[trials] for each in getattr(self, name)]
            for name in ("fx", "mu", "eps", "phi", "quiet", "buffer")
        }
        return State(
            layers=[layer.part(trials) for layer in self.layers],
            activity=[activity.part(trials) for activity in self.activity],
            gamma=self.gamma[trials],
            t_d=self.t_d[trials],
            **cut,
        )

    def activate(self, l: int) -> None:
        """f(x^l)"""
        f = self.layers[l - 1].above
        assert f is not None, "the input layer is clamped"
        self.activity[l].value(out=self.buffer[l])
        f.apply(self.buffer[l], self.fx[l])

    def predict(self, l: int) -> None:
        """mu^l = theta^{l+1} f(x^{l+1})                                              (Eq. 5)"""
        self.layers[l].predict(self.fx[l + 1], out=self.mu[l])

    def compare(self, l: int) -> None:
        """eps^l = x^l - mu^l                                                      (Eq. 5, 8)"""
        self.activity[l].error(self.mu[l], out=self.eps[l])

    def listen(self, l: int) -> None:
        """phi = 1 where eps^l was exactly 0 for the t_d steps before and now is not  (Sec. 4)"""
        zero, quiet = self.eps[l] == 0, self.quiet[l]
        self.phi[l].copy_((quiet >= self.t_d) & ~zero)
        quiet.add_(1).mul_(zero)

    def move(self, l: int) -> None:
        """x^l += gamma (f'(x^l) * (theta^l)^T eps^{l-1} - eps^l)                       (Eq. 7)

        As one product and one sum an element: a fused multiply-add, which some elements of a
        buffer get and others do not, would make a value depend on its place."""
        change = self.buffer[l]
        self.layers[l - 1].pull_back(self.eps[l - 1], self.fx[l], out=change)
        change.sub_(self.eps[l]).mul_(self.gamma)
        self.activity[l].move(change)

    def learn(self, l: int, rate: float, gated: bool) -> None:
        """theta^{l+1} += rate eps^l f(x^{l+1})^T; gated: only where phi = 1            (Eq. 9)"""
        eps = self.eps[l].where(self.phi[l] != 0, 0.0) if gated else self.eps[l]
        self.layers[l].learn(eps, self.fx[l + 1], rate)


class Inference:
    """Inference of a stack on minibatches of one size."""

    def __init__(
        self,
        layers: Sequence[Dense],
        *,
        inputs: Tensor,
        gamma: Tensor,
        t_d: Tensor,
        arithmetic: str,
    ) -> None:
        """`inputs` [R, B, n_{l_max}] is where the caller puts each batch's input."""
        self.inputs = inputs
        self._gated = bool((t_d > 0).any())  # only phi asks how long an error has been 0
        mu = [
            inputs.new_zeros(inputs.shape[0], inputs.shape[1], layer.weight.shape[1])
            for layer in layers
        ]
        self.state = State(
            layers=list(layers),
            activity=[new_activity(arithmetic, like) for like in mu],
            fx=[*(torch.zeros_like(like) for like in mu), inputs],
            mu=mu,
            eps=[torch.zeros_like(like) for like in mu],
            phi=[torch.zeros_like(like) for like in mu],
            quiet=[torch.zeros_like(like, dtype=torch.int32) for like in mu],
            buffer=[torch.zeros_like(like) for like in mu],
            gamma=gamma,
            t_d=t_d,
        )
        self._parts: dict[tuple[int, int], State] = {}

    def start(self, targets: Tensor, shifts: Sequence[Tensor] | None) -> Tensor:
        """t = 0, from the input side to the output side.

        targets  [R, B, n_0], clamped
        shifts   by l, [R, B, n_l]: what is added to the predictions of the hidden activities
                 (C1 holds where that is 0; None: 0 for all; shifts[0] is not used)
        Returns the output errors s_out - mu^0 [R, B, n_0].
        """
        state = self.state
        for l in reversed(range(len(state.layers))):
            state.predict(l)
            if l > 0:
                state.activity[l].start(state.mu[l], None if shifts is None else shifts[l])
                state.activate(l)
        state.activity[0].clamp(state.mu[0], targets)
        if self._gated:
            for quiet in state.quiet:  # before t = 0 every error counts as 0
                quiet.copy_(state.t_d.expand_as(quiet))
        return targets - state.mu[0]

    def step(self, step: Step, rate: float) -> None:
        """One inference step; `rate` is the learning rate of a sum over the batch."""
        for l, start, stop, _ in step.activate:
            self._part(start, stop).activate(l)
        for l, start, stop, _ in step.predict:
            self._part(start, stop).predict(l)
        for l, start, stop, _ in step.compare:
            self._part(start, stop).compare(l)
        for l, start, stop, _ in step.listen:
            self._part(start, stop).listen(l)
        for l, start, stop, _ in step.move:
            self._part(start, stop).move(l)
        for l, start, stop, gated in step.learn:
            self._part(start, stop).learn(l, rate, gated)

    def _part(self, start: int, stop: int) -> State:
        part = self._parts.get((start, stop))
        if part is None:
            part = self._parts[start, stop] = self.state.part(slice(start, stop))
        return part
