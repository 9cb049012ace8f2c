"""What `--plan` prints: the shards that a submission would run, and about how long they take."""

import os
from collections.abc import Collection

from rich import box
from rich.console import Console
from rich.table import Table

from cluster.plan import Plan, Shard
from cluster.resources import Resources, require_room, workers_that_fit


def print_plan(
    console: Console, plan: Plan, done: Collection[str], needs: Resources, address: str | None
) -> None:
    """Prints the shards that are not done. The minutes are those of the machine that the cost
    table was fitted on. Raises InputError if this machine has no room for the workers."""
    left = [shard for shard in plan.shards if shard.shard_id not in done]
    minutes = {s.shard_id: plan.experiment.seconds(s.trials) / 60 for s in left}
    updates = {s.shard_id: plan.experiment.updates(s.trials) for s in left}
    workers = max(1, min(_workers(needs, address), len(left)))
    wall = max(sum(minutes.values()) / workers, max(minutes.values(), default=0.0))
    console.print(_table(left, updates, minutes))
    console.print(
        f"Sweep {plan.name}: {len(plan.trials)} trials in {len(plan.shards)} shard(s), "
        f"{len(done)} committed already; {sum(updates.values()):,} weight updates to make.\n"
        f"About {sum(minutes.values()):.1f} worker minutes, {wall:.1f} minutes with {workers} "
        "worker(s). Nothing was started."
    )


def _workers(needs: Resources, address: str | None) -> int:
    """How many workers there would be; a cluster, or GPUs, cannot be seen without Ray."""
    if address is not None or needs.gpus:
        return needs.workers or 1
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
