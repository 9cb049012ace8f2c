"""From a declared sweep to tables: every check first, then the work, then the report."""

import socket
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from cluster.collect import collect
from cluster.cost import TRAINING_SAMPLES, shard_seconds
from cluster.heartbeat import Heartbeat
from cluster.plan import Plan, adopt_plan, make_plan, store_plan
from cluster.preview import print_plan
from cluster.progress import SweepProgress
from cluster.publish import print_next, publish, require_complete
from cluster.reading import committed_shards
from cluster.resources import Resources, ray_environment
from cluster.sweep import Sweep
from pcworker.commit import read_commit
from pcworker.layout import SweepKeys
from pcworker.mnist import load_digits
from pcworker.provenance import provenance
from pcworker.sealed import seal
from pcworker.store import Store, open_store

if TYPE_CHECKING:
    from cluster import dispatch


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
    name = sweep.default_name("mnist") if options.sweep is None else options.sweep
    plan = adopt_plan(store, make_plan(sweep, name))
    store.check()
    done = set(committed_shards(store, plan))
    if options.plan_only:
        if options.data is not None:
            load_digits(options.data)
        print_plan(console, plan, done, options.resources, ray_environment(options.address))
        return 0
    quarantined = 0
    if len(done) < len(plan.shards):
        missing = len(plan.shards) - len(done)
        plan, quarantined = _work(store, plan, missing, options, console)
    else:
        console.print(f"Sweep {plan.name}: all {len(plan.shards)} shards are committed already.")
    collected = collect(store, [plan])
    if not quarantined:
        require_complete(collected)
    publish(store, collected, console)
    print_next(store, collected, console)
    if quarantined:
        console.print(
            f"{quarantined} shard(s) failed; what is done is committed. The table `failures` has "
            "the tracebacks; the same command tries them again.",
            style="red",
        )
    return 1 if quarantined else 0


def _work(
    store: Store, plan: Plan, missing: int, options: RunOptions, console: Console
) -> tuple[Plan, int]:
    """Dispatches the shards that have no commit; returns the plan that was followed, and how many
    of its shards were quarantined."""
    address = ray_environment(options.address)
    from cluster import dispatch  # imports ray, which reads the environment when imported

    digits = load_digits(options.data)
    with dispatch.connected(address) as cluster:
        console.print(f"Running on {cluster}.")
        dispatcher = dispatch.Dispatcher(store.url, digits, options.resources)
        workers = dispatcher.start(missing)
        for device in sorted({f"{w['hostname']}: {w['device']}" for w in workers}):
            console.print(f"  {len(workers)} worker(s), {device}")
        plan = store_plan(store, plan, {**provenance(), "argv": sys.argv[1:]})
        done = set(committed_shards(store, plan))
        heartbeat = Heartbeat(store, plan.name)
        heartbeat.beat()
        shards = [shard for shard in plan.shards if shard.shard_id not in done]
        if others := heartbeat.others():
            console.print(
                f"Another driver seems alive, on {', '.join(others)}: working from the last shard "
                "on. (If it has just been killed, nothing is wrong.)"
            )
            shards.reverse()
        console.print(
            f"Sweep {plan.name}: {len(plan.trials)} trials in {len(plan.shards)} shard(s), "
            f"{len(done)} committed already, in {store.url}",
            soft_wrap=True,
        )
        costs = {s.shard_id: shard_seconds(s.trials, TRAINING_SAMPLES) for s in plan.shards}
        with SweepProgress(console, costs, done) as progress:

            def hear(event: dispatch.Event) -> None:
                heartbeat.beat()
                if isinstance(event, dispatch.Failed):
                    _record_failure(store, plan.name, event)
                _show(progress, event)

            def is_committed(shard_id: str) -> bool:
                return read_commit(store, SweepKeys(plan.name), shard_id) is not None

            try:
                return plan, dispatcher.run(plan.name, shards, is_committed, hear)
            finally:
                heartbeat.end()


def _show(progress: SweepProgress, event: "dispatch.Event") -> None:
    from cluster import dispatch

    if isinstance(event, dispatch.Running):
        progress.update(event.shares)
    elif isinstance(event, dispatch.Finished):
        progress.finished(event.shard.shard_id, event.outcome, event.wall_seconds)
    else:
        then = "quarantined" if event.quarantined else "it will be tried again"
        progress.failed(
            f"shard {event.shard.shard_id} failed ({event.kind}: {event.error}); {then}"
        )


def _record_failure(store: Store, sweep: str, event: "dispatch.Failed") -> None:
    record = {
        "sweep": sweep,
        "shard_id": event.shard.shard_id,
        "attempt_id": event.attempt_id,
        "kind": event.kind,
        "quarantined": event.quarantined,
        "error": event.error,
        "traceback": event.traceback,
        "driver": socket.gethostname(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "trial_ids": [trial.trial_id for trial in event.shard.trials],
    }
    key = SweepKeys(sweep).failure(event.shard.shard_id, event.attempt_id)
    store.put(key, seal(record))
