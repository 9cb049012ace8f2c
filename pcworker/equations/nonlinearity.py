"""f and the pull-back through f, by the same torch functions that torch.autograd calls.

They write into `out`. The pull-back needs only f(x), so f(x) is what is kept. The functions matter:
y * (1 - y) * error in another order differs in the last bit.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

aten = torch.ops.aten


class Activation(NamedTuple):
    """An elementwise f."""

    apply: Callable[[Tensor, Tensor], object]
    """Takes (x, out) and sets out = f(x)."""
    pull_back: Callable[[Tensor, Tensor, Tensor], object]
    """Takes (error, fx, out) and sets out = f'(x) * error, elementwise, for fx = f(x)."""


def _sigmoid(x: Tensor, out: Tensor) -> None:
    torch.sigmoid(x, out=out)


def _sigmoid_pull_back(error: Tensor, fx: Tensor, out: Tensor) -> None:
    aten.sigmoid_backward.grad_input(error, fx, grad_input=out)


def _tanh(x: Tensor, out: Tensor) -> None:
    torch.tanh(x, out=out)


def _tanh_pull_back(error: Tensor, fx: Tensor, out: Tensor) -> None:
    aten.tanh_backward.grad_input(error, fx, grad_input=out)


def _relu(x: Tensor, out: Tensor) -> None:
    aten.relu.out(x, out=out)


def _relu_pull_back(error: Tensor, fx: Tensor, out: Tensor) -> None:
    aten.threshold_backward.grad_input(error, fx, 0, grad_input=out)


ACTIVATIONS = {
    "sigmoid": Activation(_sigmoid, _sigmoid_pull_back),
    "tanh": Activation(_tanh, _tanh_pull_back),
    "relu": Activation(_relu, _relu_pull_back),
}
"""The activations, by their names in a configuration."""
