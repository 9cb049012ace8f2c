"""A sweep: the cells that a figure or a table declares, and the trials that fill them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from pcworker.config import Configuration, Trial
from pcworker.fingerprint import fingerprint


@dataclass(frozen=True)
class Cell:
    """One place in a figure: a configuration, of which each seed is a trial."""

    panel: str
    """"t-gamma", "sigma" or "rule"."""
    configuration: Configuration
    gamma: float | None
    """As declared: at t = 0 the configuration has none, but each gamma has its cell."""

    @property
    def declared(self) -> Configuration:
        """The configuration with the cell's own gamma."""
        return replace(self.configuration, gamma=self.gamma)


@dataclass(frozen=True)
class Sweep:
    """Cells x seeds. Cells with equal configurations share their trials."""

    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]

    @property
    def trials(self) -> tuple[Trial, ...]:
        """The distinct trials, in the order of the cells."""
        return tuple(
            dict.fromkeys(
                Trial(cell.configuration, seed) for cell in self.cells for seed in self.seeds
            )
        )

    def default_name(self, prefix: str) -> str:
        """`prefix` and 8 hex digits of the trial set."""
        return f"{prefix}-{trial_set_fingerprint(self.trials)[:8]}"


def declare(cells: Iterable[Cell], seeds: Sequence[int]) -> Sweep:
    """A sweep without repeated cells and seeds, in the order given."""
    return Sweep(tuple(dict.fromkeys(cells)), tuple(dict.fromkeys(seeds)))


def trial_set_fingerprint(trials: Iterable[Trial]) -> str:
    """Identity of a set of trials, whatever their order."""
    return fingerprint(sorted(trial.trial_id for trial in trials))
