"""Finds the neighbouring trials of a stack that do the same work at the same time."""

from collections.abc import Sequence

from pcworker.equations.schedule import Block, Kind
from pcworker.trials.trial import Trial


def kind(trial: Trial) -> Kind:
    """Everything about a trial that decides its schedule."""
    config = trial.configuration
    return Kind(config.rule, config.last_step, config.noisy, str(config.schedule))


def blocks(trials: Sequence[Trial]) -> list[Block]:
    """The runs of neighbours that are of one kind."""
    runs: list[Block] = []
    for place, trial in enumerate(trials):
        if runs and runs[-1].kind == kind(trial):
            runs[-1] = runs[-1]._replace(stop=place + 1)
        else:
            runs.append(Block(kind(trial), place, place + 1))
    return runs
