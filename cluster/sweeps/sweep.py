"""A sweep: the cells that a figure or a table declares, and the trials that fill these cells."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic

from pcworker.fingerprint import fingerprint
from pcworker.trials.trial import C, Trial


@dataclass(frozen=True)
class Cell(Generic[C]):
    """One place in a figure or a table. Its configuration is one trial for each seed."""

    panel: str
    """The part of the figure or table, such as "t-gamma". Its experiment chooses the words."""
    configuration: C
    gamma: float | None
    """The gamma that the cell was declared with. At t = 0 the configuration's own gamma is None,
    because no inference step uses it, but each declared gamma still has its cell."""

    @property
    def declared(self) -> C:
        """The configuration with the gamma that the cell was declared with."""
        return replace(self.configuration, gamma=self.gamma)


@dataclass(frozen=True)
class Sweep(Generic[C]):
    """Cells and seeds: every cell is trained with every seed. Cells with equal configurations share
    their trials."""

    cells: tuple[Cell[C], ...]
    seeds: tuple[int, ...]

    @property
    def trials(self) -> tuple[Trial[C], ...]:
        """The trials without repetition, in the order of the cells."""
        return tuple(
            dict.fromkeys(
                Trial(cell.configuration, seed) for cell in self.cells for seed in self.seeds
            )
        )

    def default_name(self, prefix: str) -> str:
        """A name made of `prefix` and 8 hex digits of the trial set's fingerprint."""
        return f"{prefix}-{trial_set_fingerprint(self.trials)[:8]}"


def declare(cells: Iterable[Cell[C]], seeds: Sequence[int]) -> Sweep[C]:
    """Makes a sweep of these cells and seeds, in the given order and without repetition."""
    return Sweep(tuple(dict.fromkeys(cells)), tuple(dict.fromkeys(seeds)))


def trial_set_fingerprint(trials: Iterable[Trial[Any]]) -> str:
    """The fingerprint of a set of trials. It does not depend on their order."""
    return fingerprint(sorted(trial.trial_id for trial in trials))
