"""A trial that `phases.c` trains: any rule, any shape, many updates in one call."""

from collections.abc import Iterator
from ctypes import byref

from torch import Tensor

from pcworker.kernels.fixed.gathered import PixelLists
from pcworker.kernels.fixed.library import Build, built
from pcworker.kernels.fixed.memory import TrialMemory
from pcworker.kernels.program import Program, by_step, program
from pcworker.trials.measures import are_finite
from pcworker.trials.trial import Trial


class FixedTrial:
    """One trial. It is trained alone, so its bits cannot depend on a neighbour."""

    def __init__(
        self,
        trial: Trial,
        *,
        batch: int | None = None,
        only: Program | None = None,
        made: Build | None = None,
    ) -> None:
        """
        batch  the number of samples in the largest minibatch; None: the trial's own batch size
        only   a program to run in place of the trial's own
        made   the library that computes; None: this machine's
        """
        self.trial = trial
        self._config = trial.configuration
        self.build = made or built(self._config.dtype)
        """The library that computes."""
        self._memory = TrialMemory(trial, batch or self._config.batch_size)
        self._struct = self._memory.struct(only or program(trial), self.build)

    @property
    def squares(self) -> Tensor:
        """float64 [B, n_0]: the squares of the output errors at t = 0, added up until they are set
        to zero."""
        return self._memory.squares

    def train(self, lists: PixelLists, rate: float) -> None:
        """Makes the weight updates of these minibatches. `rate` is the learning rate of a sum over
        one. Raises ValueError if they have another shape than the network."""
        self._require_fits(lists)
        self._struct.rate = rate
        self.build.code.train(byref(self._struct), lists.address)

    def watched(self, lists: PixelLists, rate: float) -> Iterator[list[Tensor]]:
        """Makes the weight update of one minibatch, and yields eps^l [B, n_l] by l after each
        inference step: views, which the next step changes. `lists` is as in `train`."""
        self._require_fits(lists)
        start, *steps = by_step(self.trial)
        for place, part in enumerate((start, *steps)):
            struct = self._memory.struct(part, self.build)
            struct.rate = rate
            self.build.code.train(byref(struct), lists.address)
            if place > 0:
                yield self.errors(lists.shape[0])

    def errors(self, batch: int) -> list[Tensor]:
        """eps^l [batch, n_l] of the last inference step, by l: views."""
        return [self._layer("eps", l, batch) for l in range(self._config.l_max)]

    def parameters(self) -> list[list[Tensor]]:
        """theta^{l+1} for l = 0 .. l_max - 1, as views: [weight], or [weight, bias]."""
        return self._memory.parameters()

    def finite(self) -> bool:
        """True if all parameters are finite."""
        return are_finite(self.parameters())

    def prediction(self, l: int, batch: int) -> Tensor:
        """mu^l [batch, n_l] of the last update, a view."""
        return self._layer("mu", l, batch)

    def _layer(self, name: str, l: int, batch: int) -> Tensor:
        """The array of this name in layer l, as [batch, n_l]: a view."""
        return self._memory.layers[name][l][:batch, : self._config.widths[l]]

    def _require_fits(self, lists: PixelLists) -> None:
        """`phases.c` looks at no shape. Beyond the memory of one array it would read another's."""
        batch, *widths = lists.shape
        most, *ours = len(self.squares), *self._config.widths
        if batch > most or widths[0] != ours[0] or widths[1:] not in (ours[1:], ours[-1:]):
            raise ValueError(
                f"batches of {batch} samples, widths {widths} for a network of widths {ours} and "
                f"batches of at most {most}"
            )
