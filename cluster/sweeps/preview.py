"""Prints what `--plan` shows: the shards that a submission would run, and their expected time."""

import math
import os
from collections.abc import Collection, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from cluster.nodes.resources import Resources, require_room, workers_that_fit
from cluster.sweeps.estimate import Estimate, estimate
from cluster.sweeps.plan import Plan, Shard
from pcworker.errors import InputError


def print_plan(
    console: Console,
    plan: Plan,
    left: Sequence[Shard],
    expected: Estimate,
    cost: str | None = None,
) -> None:
    """Prints the shards `left`, which are not committed yet, and about how long they take.

    cost  a line about the price, printed last; None: nothing is printed about it
    """
    minutes = {shard: seconds / 60 for shard, seconds in expected.seconds.items()}
    updates = {s.shard_id: plan.experiment.updates(s.trials) for s in left}
    console.print(_table(left, updates, minutes))
    console.print(
        f"Sweep {plan.name}: {len(plan.trials)} trials in {len(plan.shards)} shard(s), "
        f"{len(plan.shards) - len(left)} committed already; {sum(updates.values()):,} weight "
        f"updates to make.\nAbout {expected}. Nothing was started."
    )
    if cost is not None:
        console.print(cost, soft_wrap=True)


def cost_line(expected: Estimate, needs: Resources, price: float) -> str:
    """Says what the workers' GPUs cost for the time that the shards take.

    price  the price of one GPU for one hour, in any currency; InputError if it is negative or not
           finite
    """
    if not 0 <= price < math.inf:
        raise InputError(f"--price-per-gpu-hour {price:g}: give a finite number of at least 0")
    hours = sum(expected.seconds.values()) / 3600
    if not needs.gpus:
        return (
            f"No cost: the workers ask for no GPU, and {hours:.3g} worker hours of {needs} have no "
            "price per GPU hour; give --gpus-per-worker, or what a core costs times these hours"
        )
    return (
        f"Estimated cost: {hours:.3g} worker hours x {needs.gpus:g} GPU(s) x {price:g} = "
        f"{hours * needs.gpus * price:.2f}. It goes by a table of one AVX-512 CPU core's speeds: "
        "no GPU's were measured. Run a few shards there first, and scale. Idle time of nodes, "
        "their start and the head are not in it."
    )


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


def _table(left: Collection[Shard], updates: dict[str, int], minutes: dict[str, float]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("shard", "network", "trials", "rules", "seeds", "updates", "minutes"):
        table.add_column(column, justify="left" if column in ("shard", "network") else "right")
    for shard in left:
        table.add_row(
            shard.shard_id,
            shard.trials[0].configuration.network,
            str(len(shard.trials)),
            ", ".join(sorted({trial.configuration.rule for trial in shard.trials})),
            str(len({trial.seed for trial in shard.trials})),
            f"{updates[shard.shard_id]:,}",
            f"{minutes[shard.shard_id]:.1f}",
        )
    return table
