"""Recurrent networks that read a sequence and answer once, at its end, written out in operations.

torch.nn.RNN and torch.nn.LSTM are single operations for torch.fx, inside of which there is no graph
to level. Here every time step is made of operations of its own, with the same weights.
"""

import torch
from torch import Tensor, nn


class ManyToOneRnn(nn.Module):
    """h_s = tanh(W x_s + U h_{s-1}), and the output is linear in the last h."""

    def __init__(self, steps: int, features: int, classes: int, width: int = 64) -> None:
        """
        steps     the number of time steps
        features  the number of values that come in at each
        """
        super().__init__()
        self.steps = steps
        self.enter = nn.Linear(features, width)
        self.again = nn.Linear(width, width)
        self.last = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, steps, features] to [B, classes]."""
        h = torch.tanh(self.enter(x[:, 0]))
        for s in range(1, self.steps):
            h = torch.tanh(self.enter(x[:, s]) + self.again(h))
        output: Tensor = self.last(h)
        return output


class ManyToOneLstm(nn.Module):
    """The gates i, f, g and o of a step make its cell c and its h, as in torch.nn.LSTM. The output
    is linear in the last h."""

    def __init__(self, steps: int, features: int, classes: int, width: int = 48) -> None:
        """
        steps     the number of time steps
        features  the number of values that come in at each
        """
        super().__init__()
        self.steps, self.width = steps, width
        self.enter = nn.Linear(features, 4 * width)
        self.again = nn.Linear(width, 4 * width)
        self.last = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, steps, features] to [B, classes]."""
        gates = self.enter(x[:, 0])
        c = self._let_in(gates)  # there is nothing to forget yet
        for s in range(1, self.steps):
            gates = self.enter(x[:, s]) + self.again(self._let_out(gates, c))
            c = torch.sigmoid(self._gate(gates, 1)) * c + self._let_in(gates)
        output: Tensor = self.last(self._let_out(gates, c))
        return output

    def _let_in(self, gates: Tensor) -> Tensor:
        return torch.sigmoid(self._gate(gates, 0)) * torch.tanh(self._gate(gates, 2))

    def _let_out(self, gates: Tensor, c: Tensor) -> Tensor:
        return torch.sigmoid(self._gate(gates, 3)) * torch.tanh(c)

    def _gate(self, gates: Tensor, place: int) -> Tensor:
        return gates[:, place * self.width : (place + 1) * self.width]
