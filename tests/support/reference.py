"""Backpropagation as anyone would write it: the oracle of the bitwise tests.

It uses plain torch.nn.Linear layers, torch.autograd and torch.optim.SGD, one network at a time. It
shares only its input with the project: the initial weights and the batches.
"""

import torch
from torch import Tensor, nn

ACTIVATIONS = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}


def network(parameters: list[list[Tensor]], activation: str) -> nn.Sequential:
    """A network with copies of `parameters`, which are listed from the output layer to the input
    layer."""
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
    """The parameters from the output layer to the input layer, each [weight] or [weight, bias]."""
    linears = [module for module in model if isinstance(module, nn.Linear)]
    return [[p.detach() for p in linear.parameters()] for linear in reversed(linears)]


def equal(ours: list[list[Tensor]], theirs: list[list[Tensor]]) -> bool:
    """True if the parameters of two networks are equal bit for bit."""
    return all(
        torch.equal(a, b)
        for layer, other in zip(ours, theirs, strict=True)
        for a, b in zip(layer, other, strict=True)
    )
