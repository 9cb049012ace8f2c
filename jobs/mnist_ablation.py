"""How far does learning drift from backpropagation when a condition of Z-IL is broken?

Figure 3 of Song, Lukasiewicz, Xu & Bogacz (NeurIPS 2020) on MNIST. Per network and seed:

    t x gamma   C2 and C3: t in {l, 0, 1, 2, 3, 4, 16, 64} x gamma in {0.01, 0.1, 0.5, 1, 5, 10}
    sigma       C1: sigma in {0, 0.0001, 0.001, 0.01, 0.1, 1, 10, 100} at t = l, gamma = 1
    rule        Fa-Z-IL, and BP, from which all divergence is measured
"""

from collections.abc import Iterator, Sequence
from typing import Any

import click

from cluster.run import run_sweep
from cluster.sweep import Cell, Sweep, declare
from jobs.options import (
    INTEGERS,
    NUMBERS,
    STEPS,
    TEXTS,
    checkpoint_option,
    choice,
    console,
    help_text,
    main,
    run_options,
    split,
)
from pcworker.config import CHOICES, configuration
from pcworker.errors import InputError

NETWORKS = "784-32-10,784-32-32-10,784-32-32-32-10"
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

    every = (cell for network in networks for cell in cells(_mnist_network(network)))
    wanted = {*rules, "BP"}
    return declare((cell for cell in every if cell.configuration.rule in wanted), seeds)


def _mnist_network(network: str) -> str:
    if not (network.startswith("784-") and network.endswith("-10")):
        raise InputError(f"network {network!r}: MNIST needs 784 inputs and 10 outputs: 784-...-10")
    return network


@click.command(help=help_text(__doc__), context_settings={"max_content_width": 100})
@click.option(
    "--seeds",
    type=INTEGERS,
    default="1482555873",
    show_default=True,
    help=f"The paper: {PAPER_SEEDS}.",
)
@click.option("--epochs", type=int, default=1, show_default=True, help="The paper: 64.")
@click.option("--networks", type=TEXTS, default=NETWORKS, show_default=True)
@click.option("--rules", type=TEXTS, default="BP,IL,Z-IL,Fa-Z-IL", show_default=True)
@click.option("--t", type=STEPS, default=STEPS_OF_THE_PAPER, show_default=True)
@click.option("--gamma", type=NUMBERS, default=GAMMAS, show_default=True)
@click.option("--sigma", type=NUMBERS, default=SIGMAS, show_default=True)
@click.option("--t-d", type=int, default=4, show_default=True, help="Of Fa-Z-IL's phi.")
@click.option("--horizon", type=int, help="T of Fa-Z-IL.  [default: l_max - 1]")
@choice(
    "schedule",
    None,
    "literal: every neuron at every step; layerwise: what can still reach a weight update, the "
    "same bits for IL and Z-IL.  [default: layerwise; literal for Fa-Z-IL]",
)
@choice("arithmetic", "displacement", "textbook: eps = x - mu as printed, which rounds.")
@choice("dtype", "float32", "")
@choice("activation", "sigmoid", "")
@click.option("--bias", is_flag=True, help="With biases (the paper has none).")
@choice("init", "xavier", "Initial weights; the paper does not state them.")
@choice("reduction", "sum", "Of a weight update over the batch.")
@choice("targets", "onehot", "onehot: 0 and 1; soft: 0.03 and 0.97.")
@click.option("--alpha", type=float, default=0.001, show_default=True, help="Learning rate.")
@click.option("--batch-size", type=int, default=20, show_default=True)
@checkpoint_option
@run_options
def command(**given: Any) -> int:
    """The command line: see the module's docstring."""
    options = split(given)
    return run_sweep(mnist_ablation(**given), options, console)


if __name__ == "__main__":
    main(command)
