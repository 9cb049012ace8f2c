"""What does a weight update cost beside backpropagation's?

Table 4 of Song, Lukasiewicz, Xu & Bogacz (NeurIPS 2020) on networks for ImageNet: the time and
the memory of BP, IL, Z-IL and Fa-Z-IL, and whether the weights they have learnt are BP's:

    Z-IL, Fa-Z-IL   layerwise (what can still reach a weight update) and literal (every neuron at
                    every step)
    IL              at t = 10 and 20, so that the cost of a step is seen
    BP              torch.autograd and torch.optim.SGD, with which all others are compared

A shard is one network on one device: its rules take turns, from equal weights, on equal batches.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from cluster.resources import Resources
from cluster.run import run_sweep
from cluster.sweep import Cell, Sweep, declare
from jobs.options import (
    INTEGERS,
    TEXTS,
    choice,
    console,
    help_text,
    main,
    run_options,
    split,
)
from pcworker.catalogue import NETWORKS, facts
from pcworker.config import CHOICES
from pcworker.errors import InputError
from pcworker.image_folder import look_over
from pcworker.timing_config import TimingConfiguration, timing_configuration

SYNTHETIC = "No --data: the images are synthetic, normals of the shape of normalised real ones."


def imagenet_timing(
    *,
    networks: Sequence[str],
    seeds: Sequence[int],
    rules: Sequence[str],
    schedules: Sequence[str],
    t: Sequence[int],
    **common: Any,
) -> Sweep[TimingConfiguration]:
    """The sweep: by default 7 trials per network and seed.

    schedules  of Z-IL and Fa-Z-IL; IL takes the first
    t          of IL
    BP is always there.
    """
    for name, given in (("rule", rules), ("schedule", schedules)):
        if unknown := set(given) - set(CHOICES[name]):
            allowed = ", ".join(CHOICES[name])
            raise InputError(f"{name} {sorted(unknown)[0]!r} is unknown; allowed: {allowed}")

    def cells(network: str) -> Iterator[Cell[TimingConfiguration]]:
        def cell(rule: str, **values: Any) -> Cell[TimingConfiguration]:
            made = timing_configuration(network=network, rule=rule, **values, **common)
            return Cell("timing", made, made.gamma)

        yield cell("BP")
        for rule in ("Z-IL", "Fa-Z-IL"):
            yield from (cell(rule, schedule=schedule) for schedule in schedules)
        yield from (cell("IL", schedule=schedules[0], t=steps) for steps in t)

    every = (cell for network in networks for cell in cells(network))
    wanted = {*rules, "BP"}
    return declare((cell for cell in every if cell.configuration.rule in wanted), seeds)


def images_for(networks: Sequence[str]) -> Callable[[Path | None], str | None]:
    """Looks a directory of images over, for all of the networks; without one there is none."""

    def find(directory: Path | None) -> str | None:
        if directory is None:
            console.print(SYNTHETIC)
            return None
        look_over(directory, min(facts(network).classes for network in networks))
        return str(directory.resolve())

    return find


def device_of(resources: Resources) -> dict[str, Any]:
    """What of a worker's resources is part of what is timed."""
    wanted = resources.device == "cuda" or (resources.device == "auto" and resources.gpus > 0)
    return {"device_kind": "cuda" if wanted else "cpu", "threads": max(1, int(resources.cpus))}


@click.command(
    help=help_text(__doc__),
    # rules of one shard have all cores of a CPU, and one shard runs at a time
    context_settings={
        "max_content_width": 100,
        "default_map": {"cpus_per_worker": float(os.cpu_count() or 1)},
    },
)
@click.option(
    "--networks", type=TEXTS, default="alexnet,vgg11,mlp", show_default=True,
    help=f"Of {', '.join(NETWORKS)}.",
)  # fmt: skip
@click.option("--rules", type=TEXTS, default="BP,IL,Z-IL,Fa-Z-IL", show_default=True)
@click.option("--schedules", type=TEXTS, default="layerwise,literal", show_default=True)
@click.option("--t", type=INTEGERS, default="10,20", show_default=True, help="Of IL.")
@choice("arithmetic", "displacement", "textbook: eps = x - mu as printed, which rounds.")
@click.option("--seeds", type=INTEGERS, default="1482555873", show_default=True)
@click.option("--batch-size", type=int, default=2, show_default=True)
@click.option("--updates", type=int, default=20, show_default=True, help="That are timed, by rule.")
@click.option("--block", type=int, default=1, show_default=True, help="Updates of a rule's turn.")
@click.option("--warmup", type=int, default=2, show_default=True, help="Updates before, untimed.")
@click.option("--with-loading", is_flag=True, help="Time the loop of loading and learning, too.")
@click.option(
    "--loaders", type=click.IntRange(1), default=2, show_default=True,
    help="Processes that load, with --with-loading.",
)  # fmt: skip
@click.option("--save-weights", is_flag=True, help="Keep the values of large parameters, too.")
@run_options
def command(**given: Any) -> int:
    """The command line: see the module's docstring."""
    options = split(given)
    if not given.pop("with_loading"):
        given["loaders"] = None
    data = "imagenet" if options.data else "synthetic"
    sweep = imagenet_timing(**given, **device_of(options.resources), data=data)
    code = run_sweep(
        sweep, options, console, prefix="imagenet", find_data=images_for(given["networks"])
    )
    if options.data is None and options.plan_only:
        console.print(SYNTHETIC)
    return code


if __name__ == "__main__":
    main(command)
