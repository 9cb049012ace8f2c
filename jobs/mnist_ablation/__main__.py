"""How far does learning drift from backpropagation when a condition of Z-IL is broken?

This is Figure 3 of Song, Lukasiewicz, Xu & Bogacz (NeurIPS 2020) on MNIST. For each network and
seed, these cells are trained:

    t x gamma   C2 and C3: t in {l, 0, 1, 2, 3, 4, 16, 64} x gamma in {0.01, 0.1, 0.5, 1, 5, 10}
    sigma       C1: sigma in {0, 0.0001, 0.001, 0.01, 0.1, 1, 10, 100} at t = l, gamma = 1
    rule        Fa-Z-IL, and BP, from which all divergence is measured
"""

from typing import Any

import click

from cluster.run import run_sweep
from jobs.mnist_ablation.experiment import ABLATION
from jobs.mnist_ablation.sweep import (
    GAMMAS,
    PAPER_SEEDS,
    SIGMAS,
    STEPS_OF_THE_PAPER,
    mnist_ablation,
)
from jobs.options import (
    INTEGERS,
    MNIST_NETWORKS,
    NUMBERS,
    STEPS,
    TEXTS,
    SweepCommand,
    checkpoint_option,
    choice,
    console,
    help_text,
    main,
    rules_option,
    run_options,
    split,
    sums_option,
)


@click.command(
    cls=SweepCommand, help=help_text(__doc__), context_settings={"max_content_width": 100}
)
@click.option(
    "--seeds",
    type=INTEGERS,
    default="1482555873",
    show_default=True,
    help=f"The paper: {PAPER_SEEDS}.",
)
@click.option("--epochs", type=int, default=1, show_default=True, help="The paper: 64.")
@click.option("--networks", type=TEXTS, default=MNIST_NETWORKS, show_default=True)
@rules_option
@click.option("--t", type=STEPS, default=STEPS_OF_THE_PAPER, show_default=True)
@click.option("--gamma", type=NUMBERS, default=GAMMAS, show_default=True)
@click.option("--sigma", type=NUMBERS, default=SIGMAS, show_default=True)
@click.option("--t-d", type=int, default=4, show_default=True, help="t_d of Fa-Z-IL's phi.")
@click.option("--horizon", type=int, help="T of Fa-Z-IL.  [default: l_max - 1]")
@choice(
    "schedule",
    None,
    "literal: every neuron at every step; layerwise: only what can still reach a weight update, "
    "with the same bits for IL and Z-IL.  [default: layerwise; literal for Fa-Z-IL]",
)
@choice("arithmetic", "displacement", "textbook: eps = x - mu as printed, which rounds.")
@sums_option
@choice("dtype", "float32", "")
@choice("activation", "sigmoid", "")
@click.option("--bias", is_flag=True, help="With biases (the paper has none).")
@choice("init", "xavier", "Initial weights; the paper does not state them.")
@choice("reduction", "sum", "How a weight update adds up its batch.")
@choice("targets", "onehot", "onehot: 0 and 1; soft: 0.03 and 0.97.")
@click.option("--alpha", type=float, default=0.001, show_default=True, help="Learning rate.")
@click.option("--batch-size", type=int, default=20, show_default=True)
@checkpoint_option
@run_options
def command(**given: Any) -> int:
    """Runs the sweep that the options declare. The module's docstring is the help text."""
    options = split(given)
    return run_sweep(ABLATION, mnist_ablation(**given), options, console)


if __name__ == "__main__":
    main(command)
