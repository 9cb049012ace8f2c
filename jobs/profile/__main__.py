"""Where does the time of Figure 3 go?

This job times a weight update of every trial of one seed by itself on one core, and also the work
that trials share. It adds these times up for the whole sweep, and prints core-seconds by network
and inference steps. The last row is a lower bound: the time of the products and sigmoids alone, at
the rates of a large product and of cached sigmoids.

With --workers it measures nothing: it prints how long the sweep takes with so many workers, by its
plan and the fixed cost table, and what bounds that.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import torch
from rich.table import Table

from jobs.benchmark.arithmetic import count_needed, floor_ms
from jobs.benchmark.rounds import Core, one_core
from jobs.mnist_ablation.cost import trial_updates
from jobs.mnist_ablation.packs import WORTH, packs
from jobs.mnist_ablation.sweep import (
    GAMMAS,
    PAPER_SEEDS,
    SIGMAS,
    STEPS_OF_THE_PAPER,
    mnist_ablation,
)
from jobs.options import INTEGERS, MNIST_NETWORKS, NUMBERS, STEPS, TEXTS, console, help_text, main
from jobs.profile.curve import curve, curve_table, require_counts
from jobs.profile.network import NetworkTimes, time_network
from pcworker.clock.turns import spread
from pcworker.data.dataset import DataSet
from pcworker.data.mnist import load_digits
from pcworker.equations.rules import BP, FA_Z_IL, IL, RULES, Z_IL, label
from pcworker.kernels.program import program
from pcworker.trials.configuration import Configuration
from pcworker.trials.trial import Trial

MOST_ROUNDS = 29
"""The number of full blocks of 100 updates in an epoch."""
COPIES, BATCHES, MEASURING = "copies of BP", "batches, noise", "after epochs"
FLOOR = "products and sigmoids alone"
CoreSeconds = defaultdict[tuple[str, str], float]
"""Core-seconds, by the name of a row of `seconds_table` and by network."""


def row_of(config: Configuration) -> str:
    """The name of the row of `seconds_table` that holds a trial's time."""
    return label(config.rule, config.t)


def core_seconds(
    trials: Iterable[Trial], by_network: dict[str, NetworkTimes], worth: float = WORTH
) -> CoreSeconds:
    """The core-seconds of the trials if they are packed as in a sweep, including the copies of BP
    that shards train.

    by_network  the measured times of each network
    worth       see `packs`
    """
    seconds: CoreSeconds = defaultdict(float)
    for shard in packs(trials, worth):
        config = shard[0].configuration
        network, times = config.network, by_network[config.network]
        updates = trial_updates(config) / 1e6
        seeds = {t.seed for t in shard if RULES[t.configuration.rule].infers}
        copies = {trial.twin for trial in shard} - set(shard)
        noisy = any(trial.configuration.noisy for trial in shard)
        for trial in shard:
            each = times.update[trial.configuration]
            seconds[row_of(trial.configuration), network] += each * updates
        seconds[COPIES, network] += times.copy * updates * len(copies)
        making = times.noisy_batch if noisy else times.batch
        seconds[BATCHES, network] += making * updates * len(seeds)
        measured = len(shard) + len(copies)
        seconds[MEASURING, network] += times.epoch * config.epochs * measured / 1e6
    return seconds


def floor_seconds(
    trials: Iterable[Trial], by_network: dict[str, NetworkTimes], gflops: float, ns: float
) -> CoreSeconds:
    """The core-seconds that the arithmetic of the trials takes alone, without the pixels that are
    0. Trials whose weights do not stay finite are left out.

    gflops  the rate of a large product, in 1e9 operations per second
    ns      the nanoseconds of a cached sigmoid
    """
    seconds: CoreSeconds = defaultdict(float)
    for trial in trials:
        config = trial.configuration
        times = by_network[config.network]
        needed = count_needed(program(trial), config.widths, config.batch_size, times.pixels)
        if times.update[config]:
            each = floor_ms(needed, gflops, ns) / 1000
            seconds[FLOOR, config.network] += each * trial_updates(config)
    return seconds


def seconds_table(seconds: CoreSeconds, floor: CoreSeconds) -> Table:
    """The table of core-seconds: a row for each kind of work, a column for each network."""
    networks = list(dict.fromkeys(network for _, network in seconds))
    made = Table(title="Core-seconds of the whole sweep", title_justify="left")
    made.add_column("")
    for name in (*networks, "all", "share"):
        made.add_column(name, justify="right")
    every = sum(seconds.values())

    def add(name: str, values: list[float]) -> None:
        share = f"{sum(values) / every:.1%}"
        made.add_row(name, *(f"{value:,.0f}" for value in (*values, sum(values))), share)

    rows = dict.fromkeys(row for row, _ in seconds)
    for row in sorted(rows, key=_place):
        add(row, [seconds[row, network] for network in networks])
    made.add_section()
    add("sum", [sum(s for (_, n), s in seconds.items() if n == network) for network in networks])
    add(FLOOR, [floor[FLOOR, network] for network in networks])
    return made


def _place(row: str) -> tuple[int, int]:
    """The sorting key of a row: IL by its steps, then the other rules, then shared work."""
    steps = row.removeprefix(f"{IL.name}, t = ")
    others = (Z_IL.name, FA_Z_IL.name, BP.name, COPIES, BATCHES, MEASURING)
    return (0, int(steps)) if row != steps else (1, others.index(row))


@click.command(help=help_text(__doc__), context_settings={"max_content_width": 100})
@click.option("--seeds", type=INTEGERS, default=PAPER_SEEDS, show_default=True)
@click.option("--epochs", type=click.IntRange(1), default=64, show_default=True)
@click.option("--networks", type=TEXTS, default=MNIST_NETWORKS, show_default=True)
@click.option("--t", type=STEPS, default=STEPS_OF_THE_PAPER, show_default=True)
@click.option("--gamma", type=NUMBERS, default=GAMMAS, show_default=True)
@click.option("--sigma", type=NUMBERS, default=SIGMAS, show_default=True)
@click.option(
    "--rounds", type=click.IntRange(1, MOST_ROUNDS), default=10, show_default=True,
    help="Number of blocks, of 100 weight updates each, that every trial is timed for.",
)  # fmt: skip
@click.option(
    "--workers", type=INTEGERS, metavar="LIST", help="Numbers of workers, such as 1,2,16,32."
)
@click.option("--data", type=click.Path(path_type=Path), help="Directory of the data set.")
def command(rounds: int, workers: list[int] | None, data: Path | None, **axes: Any) -> None:
    """The command line: see the module's docstring."""
    sweep = mnist_ablation(**axes)
    if workers is not None:
        require_counts(workers)
        console.print(curve_table(curve(sweep.trials, workers)))
        return
    digits = load_digits(data)
    console.print(f"{one_core()}; torch {torch.__version__}; {len(sweep.trials)} trials")
    known, core = DataSet(digits, torch.device("cpu")), Core()
    rates = [(core.gflops(), core.ns_per_sigmoid()) for _ in range(10)]
    by_network = {}
    for network in axes["networks"]:
        one = [
            trial
            for trial in sweep.trials
            if (trial.configuration.network, trial.seed) == (network, axes["seeds"][0])
        ]
        by_network[network] = time_network(one, known, rounds)
    gflops, ns = (spread(values).median for values in zip(*rates, strict=True))
    floor = floor_seconds(sweep.trials, by_network, gflops, ns)
    console.print(f"At {gflops:.0f} GFLOP/s and {ns:.2f} ns per sigmoid:")
    seconds = core_seconds(sweep.trials, by_network)
    console.print(seconds_table(seconds, floor))
    whole = sum(seconds.values())
    fewest = sum(core_seconds(sweep.trials, by_network, math.inf).values())
    console.print(
        f"In the fewest shards: {fewest:,.0f}; its shards cost {whole / fewest - 1:.1%} more."
    )


if __name__ == "__main__":
    main(command)
