"""What `--plan` prints: the shards that a submission would run, and about how long they take."""

import os
from collections.abc import Collection, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from cluster.calibration import measured_speeds
from cluster.estimate import Estimate, estimate
from cluster.plan import Plan, Shard
from cluster.resources import Resources, require_room, workers_that_fit

WORTH_MEASURING_S = 60.0
"""Below this, by the table, measuring this machine's speeds takes longer than it is worth."""


def print_plan(console: Console, plan: Plan, left: Sequence[Shard], expected: Estimate) -> None:
    """Prints the shards that are not done, and about how long they take."""
    minutes = {shard: seconds / 60 for shard, seconds in expected.seconds.items()}
    updates = {s.shard_id: plan.experiment.updates(s.trials) for s in left}
    console.print(_table(left, updates, minutes))
    console.print(
        f"Sweep {plan.name}: {len(plan.trials)} trials in {len(plan.shards)} shard(s), "
        f"{len(plan.shards) - len(left)} committed already; {sum(updates.values()):,} weight "
        f"updates to make.\nAbout {expected}. Nothing was started."
    )


def expected_time(
    plan: Plan, left: Sequence[Shard], needs: Resources, address: str | None
) -> Estimate:
    """About how long the shards `left` take: by this machine's speeds if they are to run here, on
    its CPU, and take long enough. Raises InputError if it has no room for the workers."""
    workers = _workers(needs, address)
    rough = estimate(plan, left, workers)
    here = address is None and not needs.gpus and plan.experiment.has_speeds
    if not here or rough.wall_seconds < WORTH_MEASURING_S:
        return rough
    return estimate(plan, left, workers, measured_speeds(rough.workers))


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
