"""Trains a network of module layers by Eq. 5-9, with the same code that trains the stacks."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pcworker.equations.activity import fresh
from pcworker.equations.inference import Inference, State
from pcworker.equations.phi import FreshDetector
from pcworker.errors import InputError
from pcworker.networks.method import Method
from pcworker.networks.module_layer import ModuleLayer


class PredictiveNetwork:
    """A network of modules that learns by Eq. 5-9. It is one trial."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        """
        modules  the layers by l: modules[0] predicts the output, the last one takes the input
        """
        self.modules = tuple(modules)
        self._parameters = [
            tuple(p for p in module.parameters() if p.requires_grad) for module in modules
        ]

    @property
    def l_max(self) -> int:
        """The index of the input layer, which is also the number of layers of weights."""
        return len(self.modules)

    @torch.no_grad()
    def update(
        self,
        inputs: Tensor,
        targets: Tensor,
        rate: float,
        method: Method,
        noise: Sequence[Tensor] = (),
    ) -> Tensor:
        """Makes one weight update on one minibatch.

        inputs   x^{l_max} [B, ...]
        targets  s_out, in the shape of the network's output. E = 1/2 sum (s_out - mu^0)^2 is summed
                 over the batch and over the outputs (Eq. 2, 6)
        rate     alpha, for that sum; for a mean over the batch, divide it by B
        noise    for sigma > 0: standard normals in the shape of x^l, for l = l_max - 1 .. 1

        Returns the output errors s_out - mu^0 at t = 0. Between two updates it keeps the parameters
        alone, and frees everything else. Raises InputError if the targets have another shape than
        the output, or if noise is missing.
        """
        shifts = None
        if method.sigma:
            self._require_noise(noise)
            shifts = [targets, *(method.sigma * normal for normal in reversed(noise))]
        state = self._state(inputs, method)
        inference = Inference(state, trials=1, gated=method.gated)
        errors = inference.start(targets, shifts)
        self._require_shape(targets, state.mu[0])
        for step in method.steps(self.l_max):
            inference.step(step, rate)
        return errors

    def _state(self, inputs: Tensor, method: Method) -> State:
        """A new state, whose tensors are made when they are needed."""
        last = self.l_max - 1
        layers = [
            ModuleLayer(module, parameters, clamped=l == last)
            for l, (module, parameters) in enumerate(
                zip(self.modules, self._parameters, strict=True)
            )
        ]
        each = range(self.l_max)
        return State(
            layers=list(layers),
            activity=[fresh(method.arithmetic) for _ in each],
            fx=[*(inputs.new_empty(0) for _ in each), inputs],
            mu=[inputs.new_empty(0) for _ in each],
            eps=[inputs.new_empty(0) for _ in each],
            phi=[inputs.new_empty(0, dtype=torch.bool) for _ in each],
            detector=[FreshDetector(method.t_d) for _ in each],
            buffer=[None for _ in each],
            gamma=method.gamma,
        )

    def _require_noise(self, noise: Sequence[Tensor]) -> None:
        if len(noise) != self.l_max - 1:
            raise InputError(
                f"{len(noise)} tensors of noise for {self.l_max - 1} hidden layers: with sigma > 0 "
                "give standard normals for every hidden layer, from the input side to the output"
            )

    @staticmethod
    def _require_shape(targets: Tensor, outputs: Tensor) -> None:
        if targets.shape != outputs.shape:
            raise InputError(
                f"targets of the shape {tuple(targets.shape)}: the network's output is "
                f"{tuple(outputs.shape)}; give a target for every output, one-hot for classes"
            )
