"""Backpropagation, the reference: torch.nn.Linear, torch.autograd and torch.optim.SGD, one trial.

It shares nothing with the code of inference but the initial parameters and the batches. It calls
the function of SGD and not the class, because the class imports torch's compiler, and a worker
would start 1.3 s later.
"""

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

from pcworker.data.batches import Batch, Chunk
from pcworker.data.randomness import initial_parameters
from pcworker.trials.trial import Trial

_MODULES: dict[str, type[nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
}


class Backprop:
    """One BP trial: E = 1/2 sum (s_out - y^0)^2 over the batch (Eq. 2), plain SGD (Eq. 3)."""

    def __init__(self, trial: Trial, device: torch.device) -> None:
        config = trial.configuration
        self._linears: list[nn.Linear] = []
        modules: list[nn.Module] = []
        for layer in reversed(initial_parameters(config, trial.seed)):
            n, m = layer[0].shape
            linear = nn.Linear(m, n, bias=config.bias, device=device, dtype=layer[0].dtype)
            with torch.no_grad():
                for parameter, initial in zip(linear.parameters(), layer, strict=True):
                    parameter.copy_(initial)
            self._linears.insert(0, linear)
            modules += [linear, _MODULES[config.activation]()]
        self._network = nn.Sequential(*modules[:-1])  # the output layer is linear
        self.squares = torch.zeros(
            config.batch_size, config.widths[0], dtype=torch.float64, device=device
        )
        """[B, n_0]: the squares of the output errors before each update, added up until they are
        set to zero."""

    def update(self, batch: Batch, rate: float) -> None:
        """Makes one weight update. `rate` is the learning rate of a sum over the batch."""
        self._network.zero_grad()
        errors = batch.targets - self._network(batch.inputs)
        (0.5 * (errors * errors).sum()).backward()
        self._descend(rate)
        self.squares[: len(errors)] += errors.detach().double().square_()

    @torch.no_grad()
    def _descend(self, rate: float) -> None:
        """Does what `torch.optim.SGD.step` does for this learning rate."""
        parameters: list[Tensor] = list(self._network.parameters())
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        sgd(
            parameters,
            gradients,
            [None] * len(parameters),
            lr=rate,
            weight_decay=0,
            momentum=0,
            dampening=0,
            nesterov=False,
            maximize=False,
        )

    def train(self, chunk: Chunk, rate: float) -> None:
        """Makes the weight updates of a chunk."""
        for batch in chunk.batches():
            self.update(batch, rate)

    def finite(self) -> bool:
        """True if all parameters are finite."""
        return all(bool(torch.isfinite(p).all()) for p in self._network.parameters())

    def parameters(self) -> list[list[Tensor]]:
        """theta^{l+1} for l = 0 .. l_max - 1, as views: [weight], or [weight, bias]."""
        return [[p.detach() for p in linear.parameters()] for linear in self._linears]
