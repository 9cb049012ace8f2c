"""The cells of Figure 3."""

from collections.abc import Iterator, Sequence
from typing import Any

from cluster.sweeps.sweep import Cell, Sweep, declare
from jobs.options import mnist_network
from pcworker.errors import InputError
from pcworker.trials.configuration import CHOICES, configuration

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
    rules: Sequence[str],
    **common: Any,
) -> Sweep:
    """The sweep: 52 trials per network and seed with the paper's axes.

    t, gamma     axes of the panel t x gamma, at sigma = 0; t None is t = l, that is Z-IL
    sigma        axis of the panel of C1, at t = l and gamma = 1
    rules        keeps the cells of those rules; BP is always there
    A single value of each of t, gamma and sigma is that one cell.
    """
    if unknown := set(rules) - set(CHOICES["rule"]):
        allowed = ", ".join(CHOICES["rule"])
        raise InputError(f"rule {sorted(unknown)[0]!r} is unknown; allowed: {allowed}")

    def cells(network: str) -> Iterator[Cell]:
        def cell(panel: str, rule: str, gamma: float | None = 1.0, **values: Any) -> Cell:
            used = 1.0 if gamma is None else gamma
            made = configuration(network=network, rule=rule, gamma=used, **values, **common)
            return Cell(panel, made, gamma)

        single = len(t) == len(gamma) == len(sigma) == 1
        for step in t:
            for g in gamma:
                for s in sigma if single else (0.0,):
                    yield cell("t-gamma", "Z-IL" if step is None else "IL", g, t=step, sigma=s)
        if not single:
            yield from (cell("sigma", "Z-IL", sigma=s) for s in sigma)
            yield cell("rule", "Fa-Z-IL")
        yield cell("rule", "BP", None)

    every = (cell for network in networks for cell in cells(mnist_network(network)))
    wanted = {*rules, "BP"}
    return declare((cell for cell in every if cell.configuration.rule in wanted), seeds)
