"""From a declared sweep to tables: every check first, then the work, then the report."""

import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from cluster.collect import Collected, collect, write_tables
from cluster.cost import shard_seconds
from cluster.figure import draw_figure3
from cluster.plan import Plan, Shard, adopt_plan, make_plan, store_plan
from cluster.progress import SweepProgress
from cluster.reading import committed_shards
from cluster.report import print_report
from cluster.resources import Resources, ray_environment
from cluster.sweep import Sweep
from pcworker.errors import IncompleteError
from pcworker.layout import SweepKeys
from pcworker.mnist import load_digits
from pcworker.provenance import provenance
from pcworker.sealed import seal
from pcworker.store import Store, open_store

if TYPE_CHECKING:
    from cluster import dispatch

TRAINING_SAMPLES = 60_000


@dataclass(frozen=True)
class RunOptions:
    """How a sweep is run; nothing of it changes a result."""

    store: str
    sweep: str | None
    """None: a name from the trial set."""
    data: Path | None
    address: str | None
    resources: Resources
    plan_only: bool


def run_sweep(sweep: Sweep, options: RunOptions, console: Console) -> int:
    """Runs what is missing of `sweep`, prints and stores its tables; returns the exit code."""
    store = open_store(options.store)
    name = options.sweep or sweep.default_name("mnist")
    plan = adopt_plan(store, make_plan(sweep, name))
    store.check()
    done = set(committed_shards(store, plan))
    if options.plan_only:
        if options.data is not None:
            load_digits(options.data)
        _print_plan(console, plan, done, options)
        return 0
    quarantined = 0
    if len(done) < len(plan.shards):
        quarantined = _work(store, plan, done, options, console)
    else:
        console.print(f"Sweep {plan.name}: all {len(plan.shards)} shards are committed already.")
    collected = collect(store, [plan])
    publish(store, collected, console)
    print_next(store, [plan.name], console)
    if quarantined:
        console.print(
            f"[red]{quarantined} shard(s) failed; what is done is committed. The table `failures` "
            "has the tracebacks; the same command tries them again.[/red]"
        )
    return 1 if quarantined else 0


def require_complete(collected: Collected) -> None:
    """Raises IncompleteError if a trial has no result: a table with holes must be asked for."""
    if collected.missing:
        raise IncompleteError(
            f"{len(collected.missing)} trials have no result yet; submit the sweep again to run "
            "them, or ask for --partial tables, which mark the missing cells"
        )


def publish(store: Store, collected: Collected, console: Console) -> None:
    """Stores the tables and the figure, and prints them."""
    write_tables(store, collected)
    print_report(console, collected)
    for kind, data in draw_figure3(collected.divergence).items():
        key = collected.keys.report(f"figure3.{kind}")
        store.put(key, data)
        console.print(f"Figure: {store.describe(key)}", soft_wrap=True, highlight=False)


def print_next(store: Store, names: Sequence[str], console: Console) -> None:
    """Says where everything is, and what to run next."""
    tables = store.describe(SweepKeys.joint(names).table("divergence"))
    folder = tables.rsplit("/", 1)[0]
    for line in (
        f"Tables: {folder}/{{trials,epochs,weights,divergence,failures}}.parquet",
        "Next:",
        f"  duckdb.sql(\"SELECT network, panel, rule FROM '{tables}' WHERE exact\")",
        f"  python -m jobs.collect --store {store.url} --sweep {','.join(names)}",
        "  make figure3    (the paper's whole sweep: 3 seeds, 64 epochs)",
    ):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def _work(store: Store, plan: Plan, done: set[str], options: RunOptions, console: Console) -> int:
    """Dispatches the shards that have no commit; returns how many were quarantined."""
    address = ray_environment(options.address)
    from cluster import dispatch  # imports ray, which reads the environment when imported

    digits = load_digits(options.data)
    keys = SweepKeys(plan.name)
    costs = {s.shard_id: shard_seconds(s.trials, TRAINING_SAMPLES) for s in plan.shards}
    with dispatch.connected(address) as cluster:
        console.print(f"Running on {cluster}.", highlight=False)
        dispatcher = dispatch.Dispatcher(store.url, digits, options.resources)
        workers = dispatcher.start(len(plan.shards) - len(done))
        plan = store_plan(store, plan, {**provenance(), "argv": sys.argv[1:]})
        for device in sorted({f"{w['hostname']}: {w['device']}" for w in workers}):
            console.print(f"  {len(workers)} worker(s), {device}", highlight=False)
        console.print(
            f"Sweep {plan.name}: {len(plan.trials)} trials in {len(plan.shards)} shards, "
            f"{len(done)} committed already, in {store.url}",
            soft_wrap=True,
            highlight=False,
        )
        with SweepProgress(console, costs, done) as progress:

            def hear(event: dispatch.Event) -> None:
                if isinstance(event, dispatch.Running):
                    progress.update(event.shares)
                elif isinstance(event, dispatch.Finished):
                    progress.finished(event.shard.shard_id, event.report["wall_seconds"])
                else:
                    _record_failure(store, keys, event)
                    progress.failed(_failure_line(event))

            return dispatcher.run(plan, done, hear)


def _record_failure(store: Store, keys: SweepKeys, event: "dispatch.Failed") -> None:
    record = {
        "sweep": keys.root.rsplit("/", 1)[-1],
        "shard_id": event.shard.shard_id,
        "attempt_id": event.attempt_id,
        "kind": event.kind,
        "quarantined": event.quarantined,
        "error": event.error,
        "traceback": event.traceback,
        "hostname": socket.gethostname(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "trial_ids": [trial.trial_id for trial in event.shard.trials],
    }
    key = keys.failure(event.shard.shard_id, event.attempt_id)
    store.put(key, seal(record))


def _failure_line(event: "dispatch.Failed") -> str:
    then = "quarantined" if event.quarantined else "it will be tried again"
    return f"shard {event.shard.shard_id} failed ({event.kind}: {event.error}); {then}"


def _print_plan(console: Console, plan: Plan, done: set[str], options: RunOptions) -> None:
    """What would be run. The minutes are those of the machine that the cost table was fitted on."""
    left = [shard for shard in plan.shards if shard.shard_id not in done]
    minutes = {s.shard_id: shard_seconds(s.trials, TRAINING_SAMPLES) / 60 for s in left}
    cores = int((os.cpu_count() or 1) // max(options.resources.cpus, 1))
    workers = max(1, min(options.resources.workers or cores, len(left)))
    wall = max(sum(minutes.values()) / workers, max(minutes.values(), default=0.0))
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("shard", "network", "trials", "rules", "seeds", "updates", "minutes"):
        table.add_column(column, justify="left" if column in ("shard", "network") else "right")
    for shard in left:
        config = shard.trials[0].configuration
        table.add_row(
            shard.shard_id,
            config.network,
            str(len(shard.trials)),
            ", ".join(sorted({trial.configuration.rule for trial in shard.trials})),
            str(len({trial.seed for trial in shard.trials})),
            f"{_updates(shard):,}",
            f"{minutes[shard.shard_id]:.1f}",
        )
    console.print(table)
    console.print(
        f"Sweep {plan.name}: {len(plan.trials)} trials in {len(plan.shards)} shards, "
        f"{len(done)} committed already; {sum(map(_updates, left)):,} weight updates to make.\n"
        f"About {sum(minutes.values()):.0f} core minutes, {wall:.0f} minutes with {workers} "
        "worker(s). Nothing was started.",
        highlight=False,
    )


def _updates(shard: Shard) -> int:
    config = shard.trials[0].configuration
    return len(shard.trials) * config.epochs * -(-TRAINING_SAMPLES // config.batch_size)
