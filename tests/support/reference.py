"""Backpropagation as anyone would write it: the oracle of the bitwise tests.

Plain torch.nn.Linear layers, torch.autograd, torch.optim.SGD, one network at a time. It shares with
the project only the numbers that go in: initial weights and batches.
"""

import torch
from torch import Tensor, nn

ACTIVATIONS = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}


def network(parameters: list[list[Tensor]], activation: str) -> nn.Sequential:
    """A network with copies of `parameters`, listed from the output layer to the input."""
    modules: list[nn.Module] = []
    for weight, *bias in reversed(parameters):
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bool(bias), dtype=weight.dtype)
        linear.weight = nn.Parameter(weight.clone())
        if bias:
            linear.bias = nn.Parameter(bias[0].clone())
        modules += [linear, ACTIVATIONS[activation]()]
    return nn.Sequential(*modules[:-1])


def train_step(model: nn.Module, optimiser: torch.optim.SGD, x: Tensor, y: Tensor) -> None:
    """One step of SGD on 1/2 sum (y - model(x))^2."""
    optimiser.zero_grad()
    loss = 0.5 * ((y - model(x)) ** 2).sum()
    loss.backward()
    optimiser.step()


def parameters(model: nn.Sequential) -> list[list[Tensor]]:
    """The parameters, from the output layer to the input: [weight], or [weight, bias]."""
    linears = [module for module in model if isinstance(module, nn.Linear)]
    return [[p.detach() for p in linear.parameters()] for linear in reversed(linears)]


def equal(ours: list[list[Tensor]], theirs: list[list[Tensor]]) -> bool:
    """Whether two networks are the same bits."""
    return all(
        torch.equal(a, b)
        for layer, other in zip(ours, theirs, strict=True)
        for a, b in zip(layer, other, strict=True)
    )
