"""phi(eps^l), by which Fa-Z-IL finds the step at which a layer may learn (Sec. 4).

phi = 1 where a neuron's error was exactly 0 for the t_d steps before and now is not, for each
neuron and each sample. Before t = 0 every error counts as 0. Like an activity, a detector is held
in buffers that stay, or in tensors that are made when they are needed.
"""

from typing import Protocol

import torch
from torch import Tensor


class Detector(Protocol):
    """phi of one layer."""

    def part(self, trials: slice) -> "Detector":
        """The detector of some of the trials, in the same memory."""

    def start(self) -> None:
        """Forgets everything: t = 0 comes next."""

    def listen(self, eps: Tensor) -> Tensor:
        """phi(eps) as bool. It has to be called once at every step."""


class BufferedDetector:
    """phi of R trials. `quiet` counts for how many steps in a row eps has been exactly 0."""

    def __init__(self, phi: Tensor, quiet: Tensor, t_d: Tensor) -> None:
        """
        phi    bool [R, B, n], memory that is written to
        quiet  int32 [R, B, n], memory that is written to
        t_d    int32 [R, 1, 1]
        """
        self._phi, self._quiet, self._t_d = phi, quiet, t_d

    def part(self, trials: slice) -> "BufferedDetector":
        return BufferedDetector(self._phi[trials], self._quiet[trials], self._t_d[trials])

    def start(self) -> None:
        self._quiet.copy_(self._t_d.expand_as(self._quiet))

    def listen(self, eps: Tensor) -> Tensor:
        heard = eps != 0
        torch.logical_and(heard, self._quiet >= self._t_d, out=self._phi)
        self._quiet.add_(1).masked_fill_(heard, 0)
        return self._phi


class FreshDetector:
    """phi of one trial.

    The count is brought up to date at the next call, so the last step costs nothing. While no error
    has been non-zero, one number stands for all neurons.
    """

    _quiet: Tensor
    _heard: Tensor | None

    def __init__(self, t_d: int) -> None:
        self._t_d = t_d

    def part(self, trials: slice) -> "FreshDetector":
        del trials
        return self

    def start(self) -> None:
        self._quiet = torch.tensor(self._t_d, dtype=torch.int32)
        self._heard = None

    def listen(self, eps: Tensor) -> Tensor:
        if self._heard is not None:
            self._quiet = (self._quiet + 1) * ~self._heard
        self._heard = eps != 0
        return self._heard & (self._quiet >= self._t_d)
