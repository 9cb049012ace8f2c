"""Is Z-IL exactly backpropagation on any network, and what does it cost?

Salvatori et al. (AAAI 2022) prove that it is, on every graph that is levelled. Here residual,
recurrent and attention networks learn by every rule, and by torch.autograd and torch.optim.SGD:

    Z-IL          layerwise (a sweep) and literal (every vertex at every step)
    Z-IL          without identity vertices, where it is not backpropagation
    Fa-Z-IL, IL   as on chains; IL with gamma 0.1

--ablation also breaks C1 (sigma), C2 (IL at each t, with gamma 1) and C3 (gamma), one at a time.

A shard is one network and seed. Its rules take turns, from equal weights, on equal minibatches. The
table tells how far their weights are from BP's, and the time of an update beside BP's.
"""

import os
from typing import Any

import click

from cluster.nodes.resources import device_of
from cluster.run import run_sweep
from jobs.any_network.experiment import ANY_NETWORK
from jobs.any_network.sweep import any_network
from jobs.options import (
    INTEGERS,
    TEXTS,
    SweepCommand,
    choice,
    console,
    help_text,
    main,
    rules_option,
    run_options,
    split,
)
from pcworker.data.picture_sets import DIRECTORY, PICTURE_SETS
from pcworker.data.views import VIEWS
from pcworker.errors import InputError
from pcworker.networks.zoo.facts import GRAPHS


@click.command(
    cls=SweepCommand,
    help=help_text(__doc__),
    # a shard on a CPU gets all cores, so that one shard runs at a time
    context_settings={
        "max_content_width": 100,
        "default_map": {"cpus_per_worker": float(os.cpu_count() or 1)},
    },
)
@click.option(
    "--networks", type=TEXTS, default="cnn,resnet-small,unet,rnn,lstm,transformer",
    show_default=True,
    help=f"Networks, out of {', '.join(GRAPHS)}; or a function of your own that returns a "
    "torch.nn.Module, as module:function.",
)  # fmt: skip
@click.option(
    "--cuts", type=TEXTS, default=(),
    help="The operations, by their names in torch.fx, after which a vertex ends.  [default: those "
    "that are natural for a named network, and every module with weights of your own]",
)  # fmt: skip
@click.option(
    "--view", type=click.Choice(VIEWS),
    help="How a network of your own sees a picture.  [default: pictures]",
)  # fmt: skip
@click.option(
    "--data-set", "data_set", type=click.Choice(list(PICTURE_SETS)), default="mnist",
    show_default=True, help="directory: the images below --data, a folder for each class.",
)  # fmt: skip
@rules_option
@click.option("--t", type=INTEGERS, default="20", show_default=True, help="Values of t for IL.")
@click.option("--ablation", is_flag=True, help="Break the conditions C1, C2 and C3, too.")
@choice("arithmetic", "displacement", "textbook: eps = x - mu as printed, which rounds.")
@choice("dtype", "float32", "The type of weights and activities.")
@click.option("--seeds", type=INTEGERS, default="1482555873", show_default=True)
@click.option("--alpha", type=float, default=0.05, show_default=True, help="Learning rate.")
@choice("reduction", "mean", "mean: alpha is divided by the batch size; sum: it is not.")
@click.option("--batch-size", type=int, default=20, show_default=True)
@click.option("--updates", type=int, default=100, show_default=True, help="Updates of each rule.")
@click.option(
    "--test-samples", type=int, default=2000, show_default=True,
    help="Pictures of the test set that are looked at, at most.",
)  # fmt: skip
@run_options
def command(**given: Any) -> int:
    """Runs the sweep that the options declare. The module's docstring is the help text."""
    options = split(given)
    data = given.pop("data_set")
    sweep = any_network(data=data, **given, **device_of(options.resources))
    if data == DIRECTORY and options.data is None:
        raise InputError("data set directory: give --data, a directory of images")
    return run_sweep(ANY_NETWORK, sweep, options, console)


if __name__ == "__main__":
    main(command)
