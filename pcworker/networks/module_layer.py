"""Makes a layer of any torch module: autograd records its prediction and pulls errors back.

For the error eps^l of the prediction mu^l = module(x^{l+1}), one vector-Jacobian product gives both
the pull-back to x^{l+1} and the change of the module's parameters. It runs the same kernels as
backpropagation through the module, so that the layer gets the same bits.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ModuleLayer:
    """The layer theta^{l+1} of one trial: mu^l = module(x^{l+1}). The module includes f.

    x^{l+1} has the shape that the module takes, mu^l the shape that it returns, batch first.
    """

    def __init__(
        self, module: nn.Module, parameters: Sequence[nn.Parameter], clamped: bool
    ) -> None:
        """
        parameters  the parameters of the module that learn
        clamped     whether x^{l+1} is the input of the network, to which no error is pulled back
        """
        self._module, self._parameters, self._clamped = module, parameters, clamped
        self._x: Tensor | None = None
        self._mu: Tensor | None = None  # it holds the graph back to x and to the parameters
        self._changes: Sequence[Tensor | None] | None = None  # by parameter, if already computed

    def part(self, trials: slice) -> "ModuleLayer":
        del trials
        return self

    def activate(self, x: Tensor, out: Tensor) -> Tensor:
        """Returns x^{l+1} itself, because f is a part of the module."""
        del out
        return x

    def predict(self, fx: Tensor, out: Tensor) -> Tensor:
        """mu^l = module(x^{l+1}) for fx = x^{l+1} (Eq. 5)."""
        del out
        self._x = self._mu = self._changes = None  # frees the old graph before the new one is made
        self._x = fx.detach().requires_grad_(not self._clamped)
        with torch.enable_grad():
            self._mu = self._module(self._x)
        return self._mu.detach()

    def pull_back(self, eps: Tensor, fx: Tensor, out: Tensor | None, learns: bool) -> Tensor:
        """(d mu^l / d x^{l+1})^T eps^l (Eq. 7).

        If `learns`, the changes of the parameters come from the same pass, for `learn` to use.
        """
        del fx, out
        assert self._mu is not None and self._x is not None, "a layer predicts, then pulls back"
        if not learns:
            (pulled,) = torch.autograd.grad(self._mu, self._x, eps, retain_graph=True)
            return pulled
        wanted = (self._x, *self._parameters)
        pulled, *self._changes = torch.autograd.grad(self._mu, wanted, eps, allow_unused=True)
        return pulled

    def learn(self, eps: Tensor, fx: Tensor, rate: float) -> None:
        """theta^{l+1} += rate (d mu^l / d theta^{l+1})^T eps^l, summed over the batch (Eq. 9)."""
        del fx
        changes = self._changes_from(eps)
        for parameter, change in zip(self._parameters, changes, strict=True):
            if change is not None:
                parameter.add_(change, alpha=rate)
        self._x = self._mu = self._changes = None

    def _changes_from(self, eps: Tensor) -> Sequence[Tensor | None]:
        if self._changes is not None:
            return self._changes
        if not self._parameters:
            return ()
        assert self._mu is not None, "a layer predicts, then learns"
        return torch.autograd.grad(self._mu, self._parameters, eps, allow_unused=True)
