"""A sweep: the cells that a figure or a table declares, and the trials that fill these cells."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Generic

from pcworker.equations.rules import BP, rule_named
from pcworker.errors import InputError
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

    @cached_property
    def trials(self) -> tuple[Trial[C], ...]:
        """The trials without repetition, in the order of the cells."""
        configurations = dict.fromkeys(cell.configuration for cell in self.cells)
        seeds = dict.fromkeys(self.seeds)
        return tuple(Trial(each, seed) for each in configurations for seed in seeds)

    def default_name(self, prefix: str) -> str:
        """A name made of `prefix` and 8 hex digits of the trial set's fingerprint."""
        return f"{prefix}-{trial_set_fingerprint(self.trials)[:8]}"


def declare(cells: Iterable[Cell[C]], seeds: Sequence[int]) -> Sweep[C]:
    """Makes a sweep of these cells and seeds, in the given order and without repetition."""
    return Sweep(tuple(dict.fromkeys(cells)), tuple(dict.fromkeys(seeds)))


def of_rules(cells: Iterable[Cell[C]], rules: Collection[str] | None) -> Iterator[Cell[C]]:
    """Yields the cells of these rules, or all cells if `rules` is None. BP's are always there.

    Raises InputError for an unknown rule, and for one that has no cell, so that nobody waits for
    results that were never asked for.
    """
    for rule in sorted(rules or ()):
        rule_named(rule)
    lacking = set(rules or ())
    for cell in cells:
        if rules is None or cell.configuration.rule in {*rules, BP.name}:
            lacking.discard(cell.configuration.rule)
            yield cell
    if lacking:
        raise InputError(
            f"rules {', '.join(sorted(lacking))}: none of the declared cells is theirs; leave them "
            "out of --rules, or declare cells of theirs, as the other options do by default"
        )


def trial_set_fingerprint(trials: Iterable[Trial[Any]]) -> str:
    """The fingerprint of a set of trials. It does not depend on their order."""
    return fingerprint(sorted(trial.trial_id for trial in trials))
