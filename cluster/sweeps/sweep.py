"""A sweep: the cells that a figure or a table declares, and the trials that fill them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic

from pcworker.fingerprint import fingerprint
from pcworker.trials.trial import C, Trial


@dataclass(frozen=True)
class Cell(Generic[C]):
    """One place in a figure or a table: a configuration, of which each seed is a trial."""

    panel: str
    """"t-gamma", "sigma" or "rule"; "timing"; "detection"."""
    configuration: C
    gamma: float | None
    """As declared: at t = 0 the configuration has none, but each gamma has its cell."""

    @property
    def declared(self) -> C:
        """The configuration with the cell's own gamma."""
        return replace(self.configuration, gamma=self.gamma)


@dataclass(frozen=True)
class Sweep(Generic[C]):
    """Cells x seeds. Cells with equal configurations share their trials."""

    cells: tuple[Cell[C], ...]
    seeds: tuple[int, ...]

    @property
    def trials(self) -> tuple[Trial[C], ...]:
        """The distinct trials, in the order of the cells."""
        return tuple(
            dict.fromkeys(
                Trial(cell.configuration, seed) for cell in self.cells for seed in self.seeds
            )
        )

    def default_name(self, prefix: str) -> str:
        """`prefix` and 8 hex digits of the trial set."""
        return f"{prefix}-{trial_set_fingerprint(self.trials)[:8]}"


def declare(cells: Iterable[Cell[C]], seeds: Sequence[int]) -> Sweep[C]:
    """A sweep without repeated cells and seeds, in the order given."""
    return Sweep(tuple(dict.fromkeys(cells)), tuple(dict.fromkeys(seeds)))


def trial_set_fingerprint(trials: Iterable[Trial[Any]]) -> str:
    """Identity of a set of trials, whatever their order."""
    return fingerprint(sorted(trial.trial_id for trial in trials))
