"""What does a weight update cost, compared with backpropagation's?

This is Table 4 of Song, Lukasiewicz, Xu & Bogacz (NeurIPS 2020) on networks for ImageNet. It shows
the time and the memory of BP, IL, Z-IL and Fa-Z-IL, and whether they learn the weights of BP:

    Z-IL, Fa-Z-IL   layerwise (only what can still reach a weight update) and literal (every neuron
                    at every step)
    IL              at t = 10 and 20, which shows the cost of one step
    BP              torch.autograd and torch.optim.SGD, with which all others are compared

With --executions, BP is also timed with torch.compile, and every rule as a CUDA graph.

A shard is one network on one device. Its rules take turns, from equal weights, on equal batches.
"""

import os
from typing import Any

import click

from cluster.nodes.resources import device_of
from cluster.run import run_sweep
from jobs.imagenet_timing.experiment import TIMING
from jobs.imagenet_timing.sweep import imagenet_timing
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
from pcworker.networks.catalogue import NETWORKS

SYNTHETIC = "No --data: the images are synthetic, normals of the shape of normalised real ones."
"""This is printed after the plan of a sweep without --data."""


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
    "--networks", type=TEXTS, default="alexnet,vgg11,mlp", show_default=True,
    help=f"Networks, out of {', '.join(NETWORKS)}.",
)  # fmt: skip
@rules_option
@click.option("--schedules", type=TEXTS, default="layerwise,literal", show_default=True)
@click.option("--t", type=INTEGERS, default="10,20", show_default=True, help="Values of t for IL.")
@click.option(
    "--executions", type=TEXTS, default="plain", show_default=True,
    help="plain; compiled: BP by torch.compile; graph: every rule as a CUDA graph, on a GPU. Plain "
    "BP is always timed.",
)  # fmt: skip
@choice("arithmetic", "displacement", "textbook: eps = x - mu as printed, which rounds.")
@click.option("--seeds", type=INTEGERS, default="1482555873", show_default=True)
@click.option("--batch-size", type=int, default=2, show_default=True)
@click.option("--updates", type=int, default=20, show_default=True, help="Timed updates per rule.")
@click.option("--block", type=int, default=1, show_default=True, help="Updates in a rule's turn.")
@click.option("--warmup", type=int, default=2, show_default=True, help="Untimed updates before.")
@click.option("--with-loading", is_flag=True, help="Time the loop of loading and learning, too.")
@click.option(
    "--loaders", type=click.IntRange(1), default=2, show_default=True,
    help="Processes that load, with --with-loading.",
)  # fmt: skip
@click.option("--save-weights", is_flag=True, help="Keep the values of large parameters, too.")
@run_options
def command(**given: Any) -> int:
    """Runs the sweep that the options declare. The module's docstring is the help text."""
    options = split(given)
    if not given.pop("with_loading"):
        given["loaders"] = None
    data = "imagenet" if options.data else "synthetic"
    sweep = imagenet_timing(**given, **device_of(options.resources), data=data)
    code = run_sweep(TIMING, sweep, options, console)
    if options.data is None and options.plan_only:
        console.print(SYNTHETIC)
    return code


if __name__ == "__main__":
    main(command)
