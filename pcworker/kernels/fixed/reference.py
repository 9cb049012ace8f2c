"""Backpropagation in the same sums: modules, torch.autograd, and an optimiser of its own.

It shares nothing with the code of inference but the products, f, the initial parameters and the
batches. Autograd decides what is multiplied with what; `phases.c` only gives each sum its order.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pcworker.data.batches import Batch, Chunk
from pcworker.data.randomness import initial_parameters
from pcworker.kernels.fixed.library import F_CODES, built
from pcworker.trials.measures import are_finite
from pcworker.trials.trial import Trial

MAIN_MEMORY = torch.device("cpu")


class Affine(nn.Module):
    """x theta^T + bias, as torch.nn.Linear. The weights of an input lie together in memory."""

    def __init__(
        self, weight: Tensor, bias: Tensor | None, takes_pixels: bool, operations: Any
    ) -> None:
        """
        weight        [n, m], which is copied
        bias          [n], which is copied
        takes_pixels  whether the terms of inputs that are 0 are left out of all sums
        operations    has the functions of `phases.c` that compute
        """
        super().__init__()
        self.weight = nn.Parameter(weight.t().contiguous().t())
        self.bias = None if bias is None else nn.Parameter(bias.clone())
        self._takes_pixels = takes_pixels
        self._operations = operations

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = _Affine.apply(x, self.weight, self.bias, self._takes_pixels, self._operations)
        return out


class Nonlinearity(nn.Module):
    """f, by its name in a configuration."""

    def __init__(self, name: str, operations: Any) -> None:
        """`operations` has the functions of `phases.c` that compute."""
        super().__init__()
        self._f = F_CODES.index(name)
        self._operations = operations

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = _Nonlinearity.apply(x, self._f, self._operations)
        return out


class Descent(torch.optim.Optimizer):
    """theta <- fma(-lr, gradient, theta): gradient descent as torch.optim.SGD, with one rounding.

    torch.optim.SGD itself rounds once or twice, as the processor has it.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, operations: Any) -> None:
        """`operations` has the functions of `phases.c` that compute."""
        super().__init__(parameters, {"lr": lr})
        self._operations = operations

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds parameters. The method of torch also does this, but it imports torch's compiler,
        for which a worker would start 1.3 s later."""
        self.param_groups.append({**self.defaults, **param_group})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        del closure
        for group in self.param_groups:
            for theta in group["params"]:
                gradient = theta.grad
                if gradient is None:
                    continue
                if gradient.stride() != theta.stride():
                    gradient = torch.empty_like(theta).copy_(gradient)
                addresses = (gradient.data_ptr(), theta.data_ptr())
                self._operations.descend(theta.numel(), group["lr"], *addresses)


class FixedBackprop:
    """One BP trial: gradient descent (Eq. 3) on E = 1/2 sum (s_out - y^0)^2 (Eq. 2)."""

    def __init__(
        self, trial: Trial, operations: Any = None, device: torch.device = MAIN_MEMORY
    ) -> None:
        """
        operations  has the functions of `phases.c` that compute; None: this machine's library
        device      where the tensors are that they take
        """
        config = trial.configuration
        code = self._operations = operations or built(config.dtype).code
        self._layers: list[Affine] = []
        modules: list[nn.Module] = []
        for drawn in reversed(initial_parameters(config, trial.seed)):
            weight, *bias = (parameter.to(device) for parameter in drawn)
            layer = Affine(weight, bias[0] if bias else None, not modules, code)
            self._layers.insert(0, layer)
            modules += [layer, Nonlinearity(config.activation, code)]
        self._network = nn.Sequential(*modules[:-1])  # the output layer is linear
        self._optimiser = Descent(self._network.parameters(), config.alpha, code)
        self.squares = torch.zeros(
            config.batch_size, config.widths[0], dtype=torch.float64, device=device
        )
        """[B, n_0]: the squares of the output errors before each update, added up until they are
        set to zero."""

    def update(self, batch: Batch, rate: float) -> None:
        """Makes one weight update. `rate` is the learning rate of a sum over the batch."""
        self._optimiser.param_groups[0]["lr"] = rate
        self._network.zero_grad()
        outputs = self._network(batch.inputs)
        targets, slope = batch.targets.contiguous(), torch.empty_like(outputs)  # slope = dE / dy^0
        addresses = [t.data_ptr() for t in (outputs, targets, slope, self.squares)]
        self._operations.subtract(outputs.numel(), *addresses)
        outputs.backward(slope)
        self._optimiser.step()

    def train(self, chunk: Chunk, rate: float) -> None:
        """Makes the weight updates of a chunk."""
        for inputs, targets in zip(chunk.inputs, chunk.targets, strict=True):
            self.update(Batch(inputs, targets, []), rate)

    def finite(self) -> bool:
        """True if all parameters are finite."""
        return are_finite(self.parameters())

    def parameters(self) -> list[list[Tensor]]:
        """theta^{l+1} for l = 0 .. l_max - 1, as views: [weight], or [weight, bias]."""
        return [[p.detach() for p in layer.parameters()] for layer in self._layers]


class _Affine(torch.autograd.Function):
    """The product of an affine layer, and the products of its gradients."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, pixels: bool, operations: Any
    ) -> Tensor:
        x = x.contiguous()
        ctx.save_for_backward(x, weight)
        ctx.pixels, ctx.biased, ctx.operations = pixels, bias is not None, operations
        out = _product(operations, x, weight.t(), zeros=not pixels)
        if bias is not None:
            operations.add_bias(len(x), len(bias), bias.contiguous().data_ptr(), out.data_ptr())
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous()
        back = _product(ctx.operations, gradient, weight) if ctx.needs_input_grad[0] else None
        change = _product(ctx.operations, x.t(), gradient, zeros=not ctx.pixels).t()
        if not ctx.biased:
            return back, change, None, None, None
        rows = gradient.new_empty(gradient.shape[1])
        ctx.operations.add_rows(*gradient.shape, gradient.data_ptr(), rows.data_ptr())
        return back, change, rows, None, None


class _Nonlinearity(torch.autograd.Function):
    """f, and f' times the gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, f: int, operations: Any) -> Tensor:
        x, out = x.contiguous(), torch.empty_like(x, memory_format=torch.contiguous_format)
        operations.apply(f, x.numel(), x.data_ptr(), out.data_ptr())
        ctx.save_for_backward(out)
        ctx.f, ctx.operations = f, operations
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (fx,) = ctx.saved_tensors
        gradient, out = gradient.contiguous(), torch.empty_like(fx)
        addresses = [t.data_ptr() for t in (gradient, fx, out)]
        ctx.operations.apply_back(ctx.f, fx.numel(), *addresses)
        return out, None, None


def _product(operations: Any, a: Tensor, b: Tensor, *, zeros: bool = True) -> Tensor:
    """a b. `zeros` says whether terms with an element of `a` that is 0 belong to the sums."""
    (rows, terms), columns = a.shape, b.shape[1]
    turned = not a.is_contiguous()
    assert not turned or a.t().is_contiguous(), "a matrix lies row by row, or column by column"
    b, out = b.contiguous(), a.new_empty(rows, columns)
    addresses = (a.data_ptr(), turned, b.data_ptr(), zeros, out.data_ptr())
    operations.multiply(rows, columns, terms, *addresses)
    return out
