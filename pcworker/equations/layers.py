"""The seam between the equations and the kinds of layers: predict, pull back, learn.

`Dense` is a stack of fully connected layers, one per trial, computed by batched products.
`pcworker.networks.module_layer` makes a layer of any torch module.

Shapes: R trials, B samples, n = n_l units of the predicted layer, m = n_{l+1} of the layer above.
"""

from typing import Protocol

import torch
from torch import Tensor

from pcworker.equations.nonlinearity import Activation


class Layer(Protocol):
    """theta^{l+1} and f: from the activity x^{l+1} to the prediction mu^l, and back.

    The returned tensor is the result. `out` is memory that may be used for it.
    """

    def part(self, trials: slice) -> "Layer":
        """The layer of some of the trials, in the same memory."""

    def activate(self, x: Tensor, out: Tensor) -> Tensor:
        """fx, the layer's input: f(x^{l+1}), or x^{l+1} if the layer itself applies f."""

    def predict(self, fx: Tensor, out: Tensor) -> Tensor:
        """mu^l, which must not be written to                                         (Eq. 5)"""

    def pull_back(self, eps: Tensor, fx: Tensor, out: Tensor | None, learns: bool) -> Tensor:
        """f'(x^{l+1}) * (theta^{l+1})^T eps^l, for the input of the last `predict`     (Eq. 7)

        learns  whether `learn` follows with the same eps, before the next `predict`
        """

    def learn(self, eps: Tensor, fx: Tensor, rate: float) -> None:
        """theta^{l+1} += rate eps^l f(x^{l+1})^T, summed over the batch                (Eq. 9)"""


class Dense:
    """theta^{l+1} of R trials: mu^l = f(x^{l+1}) theta^T (+ bias).

    `above` is f, which is applied to x^{l+1}. It is None for the input layer, whose pixels enter
    without f. Every product has its operands in the order of torch.nn.Linear and of its gradient,
    so that a trial gets the bits that autograd gets.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        above: Activation | None,
        change: Tensor | None = None,
    ) -> None:
        self.weight = weight
        """[R, n, m]"""
        self.bias = bias
        """[R, n], or None"""
        self.above = above
        self._change = torch.zeros_like(weight) if change is None else change
        self._transposed = weight.transpose(1, 2)

    def part(self, trials: slice) -> "Dense":
        """The layer of some of the trials, in the same memory."""
        bias = None if self.bias is None else self.bias[trials]
        return Dense(self.weight[trials], bias, self.above, self._change[trials])

    def activate(self, x: Tensor, out: Tensor) -> Tensor:
        """f(x^{l+1}) [R, B, m]."""
        assert self.above is not None, "the input layer is clamped"
        self.above.apply(x, out)
        return out

    def predict(self, fx: Tensor, out: Tensor) -> Tensor:
        """mu^l [R, B, n] for fx = f(x^{l+1}) [R, B, m] (Eq. 5)."""
        if self.bias is None:
            _product(fx, self._transposed, out)
        elif fx.shape[0] == 1:
            torch.addmm(self.bias[0], fx[0], self._transposed[0], out=out[0])
        else:
            torch.baddbmm(self.bias.unsqueeze(1), fx, self._transposed, out=out)
        return out

    def pull_back(self, eps: Tensor, fx: Tensor, out: Tensor | None, learns: bool) -> Tensor:
        """[R, B, m] = f'(x^{l+1}) * (eps^l theta^{l+1}), for eps^l [R, B, n] (Eq. 7)."""
        del learns  # a stack's two products have nothing in common
        assert self.above is not None, "nothing is pulled back to the clamped input"
        assert out is not None, "a stack has buffers"
        _product(eps, self.weight, out)
        self.above.pull_back(out, fx, out)
        return out

    def learn(self, eps: Tensor, fx: Tensor, rate: float) -> None:
        """theta^{l+1} += rate * eps^l f(x^{l+1})^T, summed over the batch (Eq. 9)."""
        _product(eps.transpose(1, 2), fx, self._change)
        self.weight.add_(self._change, alpha=rate)
        if self.bias is not None:
            # one trial at a time: a sum over [R, B, n] may add in another order than over [B, n]
            for bias, trial_eps in zip(self.bias, eps, strict=True):
                bias.add_(trial_eps.sum(0), alpha=rate)

    def parameters(self, trial: int) -> list[Tensor]:
        """Views of one trial's parameters: [weight], or [weight, bias]."""
        return [p[trial] for p in (self.weight, self.bias) if p is not None]

    def keep(self, trials: Tensor) -> "Dense":
        """A new layer of the trials whose indices are given (int64)."""
        bias = None if self.bias is None else self.bias[trials]
        return Dense(self.weight[trials], bias, self.above)


def _product(a: Tensor, b: Tensor, out: Tensor) -> None:
    """out = a @ b for each trial. A lone trial uses the plain product, as nn.Linear does."""
    if out.shape[0] == 1:
        torch.mm(a[0], b[0], out=out[0])
    else:
        torch.bmm(a, b, out=out)
