"""Declares the cells of Figure 3."""

from collections.abc import Iterator, Sequence
from typing import Any

from cluster.sweeps.sweep import Cell, Sweep, declare, of_rules
from pcworker.data.mnist import mnist_network
from pcworker.equations.rules import BP, FA_Z_IL, IL, Z_IL
from pcworker.trials.configuration import configuration

PAPER_SEEDS = "1482555873,698841058,2283198659"
STEPS_OF_THE_PAPER = "l,0,1,2,3,4,16,64"
GAMMAS = "0.01,0.1,0.5,1,5,10"
SIGMAS = "0,0.0001,0.001,0.01,0.1,1,10,100"


def mnist_ablation(
    *,
    networks: Sequence[str],
    seeds: Sequence[int],
    t: Sequence[int | None],
    gamma: Sequence[float],
    sigma: Sequence[float],
    rules: Sequence[str] | None = None,
    **settings: Any,
) -> Sweep:
    """Declares the sweep. With the paper's axes it has 52 trials per network and seed.

    t, gamma  the axes of the panel t x gamma, which has sigma = 0; t None is t = l, that is Z-IL
    sigma     the axis of the panel of C1, which has t = l and gamma = 1
    rules     keeps the cells of these rules; the cells of BP are always kept; None: all cells
    settings  further arguments of `configuration`, equal in all cells

    If t, gamma and sigma have a single value each, the sweep has that one cell in their place.
    Raises InputError for a rule that is unknown or has no cell, and for values that `configuration`
    refuses.
    """
    cells = (
        cell
        for network in networks
        for cell in _cells(t, gamma, sigma, network=mnist_network(network), **settings)
    )
    return declare(of_rules(cells, rules), seeds)


def _cells(
    t: Sequence[int | None], gamma: Sequence[float], sigma: Sequence[float], **settings: Any
) -> Iterator[Cell]:
    """Yields the cells of one network, panel by panel."""
    single = len(t) == len(gamma) == len(sigma) == 1
    for step in t:
        rule = (Z_IL if step is None else IL).name
        for g in gamma:
            for s in sigma if single else (0.0,):
                yield _cell("t-gamma", rule, t=step, gamma=g, sigma=s, **settings)
    if not single:
        for s in sigma:
            yield _cell("sigma", Z_IL.name, sigma=s, **settings)
        yield _cell("rule", FA_Z_IL.name, **settings)
    yield _cell("rule", BP.name, **settings)


def _cell(panel: str, rule: str, gamma: float = 1.0, **settings: Any) -> Cell:
    made = configuration(rule=rule, gamma=gamma, **settings)
    return Cell(panel, made, None if rule == BP.name else gamma)  # BP has no gamma at all
