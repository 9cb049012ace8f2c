"""Prints what `--plan` shows: the work that a submission would do, and its expected time."""

import heapq
import os
from collections.abc import Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from cluster.nodes.prices import Prices
from cluster.nodes.resources import Resources, require_room, workers_that_fit
from cluster.sweeps.estimate import Estimate, estimate
from cluster.sweeps.plan import Plan, Shard
from cluster.sweeps.summary import Amount, Heading, summed_up
from pcworker.text import counted

LONGEST_SHOWN = 5
"""The number of the longest shards that are shown one by one."""


def print_plan(
    console: Console,
    plan: Plan,
    left: Sequence[Shard],
    expected: Estimate,
    cost: str | None = None,
) -> None:
    """Sums up the shards `left`, which are not committed yet, shows the longest of them, and says
    about how long all of them take.

    cost  a line about the price, printed last; None: nothing is printed about it
    """
    rows = summed_up(plan, left, expected.seconds)
    if left:
        console.print(_work(rows))
        console.print(_longest(plan, left, expected.seconds))
    updates = sum(row.updates for row in rows.values())
    console.print(
        f"Sweep {plan.name}: {counted(len(plan.trials), 'trial')} in "
        f"{counted(len(plan.shards), 'shard')}, {len(plan.shards) - len(left):,} committed "
        f"already; {updates:,.0f} weight updates to make.\nAbout {expected}. Nothing was started."
    )
    if cost is not None:
        console.print(cost, soft_wrap=True)


def cost_line(expected: Estimate, needs: Resources, prices: Prices) -> str:
    """Says what the workers cost for the time that the shards take."""
    hours = sum(expected.seconds.values()) / 3600
    if not prices.of(needs):
        return (
            f"No cost: by these prices {hours:.3g} worker hours of {needs} cost nothing; give "
            "--price-per-core-hour, or --gpus-per-worker and --price-per-gpu-hour"
        )
    line = (
        f"Estimated cost: {hours:.3g} worker hours of {needs} x {prices.of(needs):g} = "
        f"{hours * prices.of(needs):.2f}. Idle time of nodes, their start and the head are not in "
        "it."
    )
    if needs.gpus:
        line += (
            " It goes by a table of one AVX-512 CPU core's speeds: no GPU's were measured. Run a "
            "few shards there first, and scale."
        )
    return line


def expected_time(
    plan: Plan, left: Sequence[Shard], needs: Resources, address: str | None
) -> Estimate:
    """Estimates how long the shards `left` take.

    The speed of this machine is measured if the shards will run here, on the CPU. Otherwise the
    fixed cost table decides. Raises InputError if this machine has no room for the workers.
    """
    workers = _workers(needs, address)
    rough = estimate(plan, left, workers)
    calibrated = plan.experiment.calibrated
    here = address is None and not needs.gpus
    if calibrated is None or not here or not left:
        return rough
    return estimate(plan, left, workers, calibrated(rough.workers, rough.wall_seconds))


def _workers(needs: Resources, address: str | None) -> int:
    """How many workers a submission would have. Without Ray, neither a cluster nor GPUs can be
    seen: then it is the number that the user gave, or 1."""
    if address is not None or needs.gpus:
        return (needs.workers or 1) + needs.cpu_workers
    here = [{"CPU": float(os.cpu_count() or 1)}]
    require_room(here, needs)
    return needs.workers or workers_that_fit(here, needs)


def _work(rows: Mapping[Heading, Amount]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("network", "rule", "trials", "updates", "minutes"):
        table.add_column(column, justify="left" if column in ("network", "rule") else "right")
    above = ""
    for (network, rule), row in rows.items():
        numbers = f"{row.trials:,}", f"{row.updates:,.0f}", f"{row.seconds / 60:,.2f}"
        table.add_row("" if network == above else network, rule, *numbers)
        above = network
    return table


def _longest(plan: Plan, left: Sequence[Shard], seconds: Mapping[str, float]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    first = "shard" if len(left) <= LONGEST_SHOWN else "longest shards"
    for column in (first, "network", "trials", "rules", "seeds", "updates", "minutes"):
        table.add_column(column, justify="left" if column in (first, "network") else "right")
    longest = heapq.nlargest(LONGEST_SHOWN, left, key=lambda shard: seconds[shard.shard_id])
    for shard in longest:
        table.add_row(
            shard.shard_id,
            shard.trials[0].configuration.network,
            f"{len(shard.trials):,}",
            ", ".join(sorted({trial.configuration.rule for trial in shard.trials})),
            f"{len({trial.seed for trial in shard.trials}):,}",
            f"{plan.experiment.updates(shard.trials):,}",
            f"{seconds[shard.shard_id] / 60:,.2f}",
        )
    return table
