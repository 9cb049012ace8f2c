"""A trial that `fused.c` trains, where torch's own operations would give the same bits more slowly.

It is trained alone, many updates in one call. So its bits cannot depend on a neighbour, and its
weights stay in the processor's cache from one update to the next.
"""

import ctypes

import torch
from torch import Tensor

from pcworker.kernels.fused import library
from pcworker.kernels.fused.gathered import Gathered
from pcworker.kernels.fused.memory import Memory
from pcworker.kernels.program import Program, program
from pcworker.trials.trial import Trial


class FusedTrial:
    """One trial of any rule."""

    def __init__(
        self,
        trial: Trial,
        orders: library.Orders,
        *,
        batch: int | None = None,
        only: Program | None = None,
    ) -> None:
        """
        batch  the number of samples in the largest minibatch; None: the trial's own batch size
        only   a program to run in place of the trial's own
        """
        self.trial = trial
        self._config = trial.configuration
        self._memory = Memory(trial, batch or self._config.batch_size)
        self._struct = self._memory.struct(only or program(trial), orders)

    @property
    def squares(self) -> Tensor:
        """float64 [B, n_0]: the squares of the output errors at t = 0, added up until they are set
        to zero."""
        return self._memory.squares

    def train(self, gathered: Gathered, rate: float) -> None:
        """Makes the weight updates of these minibatches. `rate` is the learning rate of a sum over
        one. Raises ValueError if they have another shape than the network."""
        self._require_fits(gathered)
        self._struct.rate = rate
        library.loaded().train(ctypes.byref(self._struct), ctypes.byref(gathered.struct))

    def parameters(self) -> list[list[Tensor]]:
        """[[theta^{l+1} [n_l, n_{l+1}]]] for l = 0 .. l_max - 1, as views."""
        theta = self._memory.theta
        return [*([weight] for weight in theta[:-1]), [theta[-1].t()]]

    def finite(self) -> bool:
        """True if all parameters are finite."""
        return all(bool(torch.isfinite(theta).all()) for theta in self._memory.theta)

    def everything(self, batch: int) -> list[Tensor]:
        """Everything that the last update, of a minibatch of this size, has computed, and the
        parameters: as `Stack.everything`."""
        widths, layers = self._config.widths, self._memory.layers
        first = {"mu": 0, "eps": 0, "fx": 1, "buffer": 1}
        computed = [
            layers[name][l][:batch, : widths[l]]
            for name, start in first.items()
            for l in range(start, self._config.l_max)
        ]
        return computed + [p for layer in self.parameters() for p in layer]

    def prediction(self, l: int, batch: int) -> Tensor:
        """mu^l [batch, n_l] of the last update, a view."""
        return self._memory.layers["mu"][l][:batch, : self._config.widths[l]]

    def see(self, l: int, fx: Tensor) -> None:
        """Sets f(x^l) to `fx` [B, n_l], for a program that does not compute it."""
        self._memory.layers["fx"][l][: len(fx)] = fx

    def _require_fits(self, gathered: Gathered) -> None:
        """`fused.c` looks at no shape. Beyond the memory of one array it would read another's."""
        batch, *widths = gathered.shape
        most, *ours = len(self.squares), *self._config.widths
        if batch > most or widths[0] != ours[0] or widths[1:] not in (ours[1:], ours[-1:]):
            raise ValueError(
                f"batches of {batch} samples, widths {widths} for a network of widths {ours} and "
                f"batches of at most {most}"
            )
