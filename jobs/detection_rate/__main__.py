"""How often does phi find the inference step t = l?

This is Table 3 of Song, Lukasiewicz, Xu & Bogacz (NeurIPS 2020) on MNIST. The phi of a neuron
spikes if the neuron's error was exactly 0 for t_d steps and is not 0 now. Fa-Z-IL equals Z-IL if
phi spikes at t = l and at no other t. Spikes are counted for every neuron and test digit, for t_d
in {1..8, 16}, in literal inference, after some weight updates of BP.

    --activations, --dtypes, --arithmetics, --gammas, --weights: the first value of each is the
    base; each other value replaces it alone.

A shard is one network, setting and seed.
"""

from typing import Any

import click

from cluster.run import run_sweep
from jobs.detection_rate.experiment import DETECTION
from jobs.detection_rate.sweep import detection_rate
from jobs.options import (
    INTEGERS,
    MNIST_NETWORKS,
    NUMBERS,
    TEXTS,
    Listed,
    SweepCommand,
    console,
    help_text,
    main,
    run_options,
    split,
    sums_option,
)

HORIZONS = Listed(lambda text: None if text == "l_max-1" else int(text), "HORIZONS")


@click.command(
    cls=SweepCommand, help=help_text(__doc__), context_settings={"max_content_width": 100}
)
@click.option("--networks", type=TEXTS, default=MNIST_NETWORKS, show_default=True)
@click.option("--activations", type=TEXTS, default="sigmoid,tanh,relu", show_default=True)
@click.option("--dtypes", type=TEXTS, default="float32,float64", show_default=True)
@click.option(
    "--arithmetics", type=TEXTS, default="textbook,displacement", show_default=True,
    help="textbook: eps = x - mu as printed, which rounds.",
)  # fmt: skip
@click.option("--gammas", type=NUMBERS, default="1,0.5,0.1", show_default=True)
@click.option(
    "--weights", type=TEXTS, default="learning,still", show_default=True,
    help="Weights during inference: they learn where phi allows it, or they stay still.",
)  # fmt: skip
@click.option(
    "--stages", type=INTEGERS, default="0,100,1000,3000", show_default=True,
    help="Numbers of weight updates of BP after which spikes are counted.",
)  # fmt: skip
@click.option(
    "--horizons", type=HORIZONS, default="l_max-1,16,32", show_default=True,
    help="Last inference steps up to which spikes are counted.",
)  # fmt: skip
@click.option(
    "--tolerances", type=NUMBERS, default="0,1e-8,1e-6,1e-4", show_default=True,
    help="The largest |eps| that counts as zero.",
)  # fmt: skip
@click.option("--seeds", type=INTEGERS, default="1482555873", show_default=True)
@click.option("--alpha", type=float, default=0.001, show_default=True, help="Learning rate.")
@click.option("--batch-size", type=int, default=20, show_default=True)
@click.option(
    "--minibatches", type=int, default=10, show_default=True,
    help="Minibatches of test digits in each stage.",
)  # fmt: skip
@sums_option
@run_options
def command(**given: Any) -> int:
    """Runs the sweep that the options declare. The module's docstring is the help text."""
    options = split(given)
    return run_sweep(DETECTION, detection_rate(**given), options, console)


if __name__ == "__main__":
    main(command)
