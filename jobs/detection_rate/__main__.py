"""How often does phi find the inference step t = l?

Table 3 of Song, Lukasiewicz, Xu & Bogacz (NeurIPS 2020) on MNIST. A neuron's phi spikes where its
error was exactly 0 for t_d steps and now is not; Fa-Z-IL is Z-IL where it spikes at t = l and at no
other t. Counted per neuron and sample, for t_d in {1..8, 16}, after some weight updates of BP,
on test digits, in the literal inference.

    --activations, --dtypes, --arithmetics, --gammas, --weights: the first value of each is the
    base; each of the others is put in its place alone.

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
    console,
    help_text,
    main,
    run_options,
    split,
)

HORIZONS = Listed(lambda text: None if text == "l_max-1" else int(text), "HORIZONS")


@click.command(help=help_text(__doc__), context_settings={"max_content_width": 100})
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
    help="During inference: learning where phi lets them, or still.",
)  # fmt: skip
@click.option(
    "--stages", type=INTEGERS, default="0,100,1000,3000", show_default=True,
    help="Weight updates of BP before.",
)  # fmt: skip
@click.option(
    "--horizons", type=HORIZONS, default="l_max-1,16,32", show_default=True,
    help="Last inference steps up to which spikes are counted.",
)  # fmt: skip
@click.option(
    "--tolerances", type=NUMBERS, default="0,1e-8,1e-6,1e-4", show_default=True,
    help="|eps| up to which it counts as zero.",
)  # fmt: skip
@click.option("--seeds", type=INTEGERS, default="1482555873", show_default=True)
@click.option("--alpha", type=float, default=0.001, show_default=True, help="Learning rate.")
@click.option("--batch-size", type=int, default=20, show_default=True)
@click.option(
    "--minibatches", type=int, default=10, show_default=True, help="Of test digits, in each stage."
)
@run_options
def command(**given: Any) -> int:
    """The command line: see the module's docstring."""
    options = split(given)
    return run_sweep(DETECTION, detection_rate(**given), options, console)


if __name__ == "__main__":
    main(command)
