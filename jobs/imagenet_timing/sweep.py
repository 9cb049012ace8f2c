"""Declares the rows of Table 4: every rule on every network."""

from collections.abc import Iterator, Sequence
from typing import Any

from cluster.sweeps.sweep import Cell, Sweep, declare, of_rules
from jobs.imagenet_timing.configuration import TimingConfiguration, timing_configuration
from pcworker.equations.rules import BP, FA_Z_IL, IL, Z_IL
from pcworker.trials.configuration import require_choice


def imagenet_timing(
    *,
    networks: Sequence[str],
    seeds: Sequence[int],
    schedules: Sequence[str],
    t: Sequence[int],
    executions: Sequence[str] = ("plain",),
    rules: Sequence[str] | None = None,
    **settings: Any,
) -> Sweep[TimingConfiguration]:
    """Declares the sweep. By default it has 7 trials per network and seed.

    schedules  the schedules of Z-IL and Fa-Z-IL; IL has the first one only
    t          the values of t for IL
    executions how weight updates are started; "compiled" has BP only, and plain BP is always there
    rules      keeps the cells of these rules; the cells of BP are always kept; None: all cells
    settings   further arguments of `timing_configuration`, equal in all cells

    Raises InputError for an unknown rule, schedule, execution or network, for a rule that has no
    cell, and for other values that `timing_configuration` refuses.
    """
    for schedule in sorted(set(schedules)):
        require_choice("schedule", schedule)
    for execution in sorted(set(executions)):
        require_choice("execution", execution)
    cells = (
        cell
        for network in networks
        for execution in dict.fromkeys(("plain", *executions))
        for cell in _cells(schedules, t, network=network, execution=execution, **settings)
        if execution in executions or cell.configuration.rule == BP.name
    )
    return declare(of_rules(cells, rules), seeds)


def _cells(
    schedules: Sequence[str], t: Sequence[int], **settings: Any
) -> Iterator[Cell[TimingConfiguration]]:
    """Yields the cells of one network and execution."""
    yield _cell(BP.name, **settings)
    if settings["execution"] == "compiled":
        return
    for rule in (Z_IL, FA_Z_IL):
        for schedule in schedules:
            yield _cell(rule.name, schedule=schedule, **settings)
    for steps in t:
        yield _cell(IL.name, schedule=schedules[0], t=steps, **settings)


def _cell(rule: str, **settings: Any) -> Cell[TimingConfiguration]:
    made = timing_configuration(rule=rule, **settings)
    return Cell("timing", made, made.gamma)
