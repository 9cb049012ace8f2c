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
from typing import Protocol

import torch
from torch import Tensor

from pcworker.layers import Dense
from pcworker.schedule import Step


class Activity(Protocol):
    """How the activity x^l of a layer is held, and with it what eps = x - mu rounds to."""

    def start(self, mu: Tensor, shift: Tensor | None) -> None:
        """x^l_0 = mu^l_0 + shift (None: 0, condition C1)."""

    def clamp(self, mu: Tensor, x: Tensor) -> None:
        """x^l_0 is given; its prediction is `mu`."""

    def value(self, part: slice, out: Tensor) -> None:
        """out = x^l"""

    def error(self, part: slice, mu: Tensor, out: Tensor) -> None:
        """out = x^l - mu^l"""

    def move(self, part: slice, change: Tensor) -> None:
        """x^l += change"""


class Displacement:
    """x = a + d, with the anchor a = mu at t = 0 and the displacement d = x - a.

    eps = d - (mu - a): until an error reaches the layer mu is a, bit for bit, and eps is d without
    a rounding. In the paper's own form, (mu + d) - mu, the last bits of d are lost.
    """

    def __init__(self, like: Tensor) -> None:
        self.anchor, self.shift = torch.empty_like(like), torch.empty_like(like)

    def start(self, mu: Tensor, shift: Tensor | None) -> None:
        self.anchor.copy_(mu)
        self.shift.zero_() if shift is None else self.shift.copy_(shift)

    def clamp(self, mu: Tensor, x: Tensor) -> None:
        self.anchor.copy_(mu)
        torch.sub(x, mu, out=self.shift)

    def value(self, part: slice, out: Tensor) -> None:
        torch.add(self.anchor[part], self.shift[part], out=out)

    def error(self, part: slice, mu: Tensor, out: Tensor) -> None:
        torch.sub(mu, self.anchor[part], out=out)
        torch.sub(self.shift[part], out, out=out)

    def move(self, part: slice, change: Tensor) -> None:
        self.shift[part].add_(change)


class Textbook:
    """x itself, as the paper and other implementations have it: eps = x - mu."""

    def __init__(self, like: Tensor) -> None:
        self.x = torch.empty_like(like)

    def start(self, mu: Tensor, shift: Tensor | None) -> None:
        self.x.copy_(mu) if shift is None else torch.add(mu, shift, out=self.x)

    def clamp(self, mu: Tensor, x: Tensor) -> None:
        del mu
        self.x.copy_(x)

    def value(self, part: slice, out: Tensor) -> None:
        out.copy_(self.x[part])

    def error(self, part: slice, mu: Tensor, out: Tensor) -> None:
        torch.sub(self.x[part], mu, out=out)

    def move(self, part: slice, change: Tensor) -> None:
        self.x[part].add_(change)


ARITHMETICS: dict[str, type[Displacement] | type[Textbook]] = {
    "displacement": Displacement,
    "textbook": Textbook,
}


class Inference:
    """The state of a stack during one minibatch, and the operations that a `Step` asks for."""

    def __init__(
        self, layers: Sequence[Dense], *, batch: int, gamma: Tensor, t_d: Tensor, arithmetic: str
    ) -> None:
        """`layers[l]` predicts layer l. gamma and t_d: [R, 1, 1]."""
        self.layers = layers
        self.l_max = len(layers)
        self.gamma, self.t_d = gamma, t_d
        weights = [layer.weight for layer in layers]
        self.mu = [w.new_zeros(len(w), batch, w.shape[1]) for w in weights]
        self.eps = [torch.zeros_like(mu) for mu in self.mu]
        self.phi = [torch.zeros_like(mu) for mu in self.mu]
        self.quiet = [torch.zeros_like(mu, dtype=torch.int32) for mu in self.mu]
        self.activity: list[Activity] = [ARITHMETICS[arithmetic](mu) for mu in self.mu]
        self.fx = [torch.zeros_like(mu) for mu in self.mu]  # of l = 1 .. l_max; fx[0] is not used
        self._x = [torch.empty_like(mu) for mu in self.mu]
        self._change = [torch.empty_like(mu) for mu in self.mu]

    def start(self, inputs: Tensor, targets: Tensor, shifts: Sequence[Tensor] | None) -> None:
        """t = 0: inputs [R, B, n_{l_max}] and targets [R, B, n_0] are clamped, and every hidden
        activity is its prediction plus `shifts[l]` [R, B, n_l] (C1 holds where that is 0; None: 0
        for all; shifts[0] is not used), from the input side to the output side."""
        everyone = slice(0, len(inputs))
        self.fx = [*self.fx[: self.l_max], inputs]
        for l in reversed(range(self.l_max)):
            self.predict(l, everyone)
            if l > 0:
                self.activity[l].start(self.mu[l], None if shifts is None else shifts[l])
                self.activate(l, everyone)
        self.activity[0].clamp(self.mu[0], targets)
        for quiet in self.quiet:  # before t = 0 every error counts as 0
            quiet.copy_(self.t_d.expand_as(quiet))

    def step(self, step: Step, rate: float) -> None:
        """One inference step; `rate` is the learning rate of a sum over the batch."""
        for l, start, stop, _ in step.activate:
            self.activate(l, slice(start, stop))
        for l, start, stop, _ in step.predict:
            self.predict(l, slice(start, stop))
        for l, start, stop, _ in step.compare:
            self.compare(l, slice(start, stop))
        for l, start, stop, _ in step.listen:
            self.listen(l, slice(start, stop))
        for l, start, stop, _ in step.move:
            self.move(l, slice(start, stop))
        for l, start, stop, gated in step.learn:
            self.learn(l, slice(start, stop), rate, gated)

    def activate(self, l: int, part: slice) -> None:
        """f(x^l)"""
        f = self.layers[l - 1].above
        assert f is not None, "the input layer is clamped"
        x = self._x[l][part]
        self.activity[l].value(part, out=x)
        f.apply(x, self.fx[l][part])

    def predict(self, l: int, part: slice) -> None:
        """mu^l = theta^{l+1} f(x^{l+1})                                              (Eq. 5)"""
        self.layers[l].predict(part, self.fx[l + 1][part], out=self.mu[l][part])

    def compare(self, l: int, part: slice) -> None:
        """eps^l = x^l - mu^l                                                        (Eq. 5, 8)"""
        self.activity[l].error(part, self.mu[l][part], out=self.eps[l][part])

    def listen(self, l: int, part: slice) -> None:
        """phi = 1 where eps^l was exactly 0 for the t_d steps before and now is not   (Sec. 4)"""
        zero, quiet = self.eps[l][part] == 0, self.quiet[l][part]
        self.phi[l][part].copy_((quiet >= self.t_d[part]) & ~zero)
        quiet.add_(1).mul_(zero)

    def move(self, l: int, part: slice) -> None:
        """x^l += gamma (f'(x^l) * (theta^l)^T eps^{l-1} - eps^l)                        (Eq. 7)

        Written as one product and one sum an element, so that no fused operation of a vector unit
        makes a value depend on its place in the buffer."""
        change = self._change[l][part]
        self.layers[l - 1].pull_back(part, self.eps[l - 1][part], self.fx[l][part], out=change)
        change.sub_(self.eps[l][part]).mul_(self.gamma[part])
        self.activity[l].move(part, change)

    def learn(self, l: int, part: slice, rate: float, gated: bool) -> None:
        """theta^{l+1} += rate eps^l f(x^{l+1})^T; gated: rate phi(eps^l) per neuron    (Eq. 9)"""
        eps = self.eps[l][part]
        if gated:
            eps = eps * self.phi[l][part]
        self.layers[l].learn(part, eps, self.fx[l + 1][part], rate)
