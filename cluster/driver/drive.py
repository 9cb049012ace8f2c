"""The driver of a sweep: connects to Ray, dispatches the shards without a commit, keeps the record.

It has no state of its own: all that is true of a sweep is in the store, so a driver may be killed
at any time, and the next one goes on.
"""

import socket
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from cluster.driver.events import Event, Failed, Running, Trouble
from cluster.driver.heartbeat import Heartbeat
from cluster.driver.progress import SweepProgress
from cluster.nodes.resources import Resources
from cluster.results.reading import committed, with_commit
from cluster.sweeps.plan import Plan, Shard, store_plan
from pcworker.machine.provenance import command_line, provenance
from pcworker.plain import as_json
from pcworker.store.commit import read_commit
from pcworker.store.sealed import seal
from pcworker.store.store import Store
from pcworker.store.tables import FailureRow


def drive(
    opened: Store,
    store: Store,
    plan: Plan,
    data: Any,
    *,
    address: str | None,
    resources: Resources,
    checkpoint_every: int,
    console: Console,
    expected: str,
    look: Callable[[Any], None] | None,
) -> tuple[Plan, int]:
    """Runs the shards that have no commit; returns the plan that was followed, and how many of its
    shards were quarantined.

    opened   the store as the workers open it
    store    the same, patient: an outage is waited out
    address  as `ray_environment` returned it
    expected about how long it takes, to be printed
    look     at the connection to Ray, before anything is written; None: neither the driver nor a
             worker looks for what would break the sweep
    """
    from cluster.driver.dispatch import Dispatcher
    from cluster.driver.metrics import Metrics
    from cluster.nodes.connect import (
        connected,  # these import ray, which reads its environment then
    )
    from pcworker.worker import Work

    with connected(address) as cluster:
        console.print(f"Running on {cluster.where}.")
        console.print(f"About {expected}.")
        if look is not None:
            look(cluster)
        command = command_line()
        work = Work(
            sweep=plan.name,
            store=opened,
            device=resources.device,
            cpus=int(resources.cpus),
            checkpoint_every=checkpoint_every,
            command=tuple(command),
            make_engine=plan.experiment.engine,
            tables=plan.experiment.tables,
            environment=plan.experiment.environment,
            tries_exactness=look is not None and plan.experiment.exact,
        )
        dispatcher = Dispatcher(work, data, resources)
        plan = store_plan(store, plan, as_json(provenance(command)))
        done = committed(store, plan)
        costs = {s.shard_id: plan.experiment.seconds(s.trials) for s in plan.shards}
        metrics = Metrics(plan.name, len(plan.shards), len(done))
        with SweepProgress(console, costs, done) as progress:
            heartbeat = Heartbeat(opened, plan.name, lambda text: progress.hear(Trouble(text)))
            heartbeat.beat()

            def hear(event: Event) -> None:
                heartbeat.beat(event if isinstance(event, Running) else None)
                metrics.hear(event)
                progress.hear(event)
                if isinstance(event, Failed):
                    _record(store, plan, event)

            def is_committed(shard_id: str) -> bool:
                return read_commit(store, plan.keys, shard_id) is not None

            try:
                for event in dispatcher.start(len(plan.shards) - len(done), heartbeat.beat):
                    hear(event)
                shards = _order(plan, done, heartbeat, console)
                console.print(
                    f"Sweep {plan.name}: {len(plan.trials)} trials in {len(plan.shards)} "
                    f"shard(s), {len(done)} committed already, in {store.url}",
                    soft_wrap=True,
                )
                quarantined = dispatcher.run(shards, is_committed, hear)
            finally:
                heartbeat.end()
    _tidy(store, plan)
    return plan, quarantined


def _order(plan: Plan, done: set[str], heartbeat: Heartbeat, console: Console) -> list[Shard]:
    """The shards to run, from the last one on if another driver is at work on the first ones."""
    shards = [shard for shard in plan.shards if shard.shard_id not in done]
    if others := heartbeat.others():
        hosts = ", ".join(driver.hostname for driver in others)
        console.print(
            f"Another driver seems alive, on {hosts}: working from the last shard on. (If it has "
            "just been killed, nothing is wrong.)"
        )
        shards.reverse()
    return shards


def _record(store: Store, plan: Plan, event: Failed) -> None:
    """Keeps a failed attempt as a record. A store in trouble ends the driver here, before more work
    is lost to it."""
    if event.kind == "store":
        store.check()
    row = FailureRow(
        sweep=plan.name,
        shard_id=event.shard.shard_id,
        attempt_id=event.attempt_id,
        kind=event.kind,
        quarantined=event.quarantined,
        error=event.error,
        traceback=event.traceback,
        driver=socket.gethostname(),
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        trial_ids=tuple(trial.trial_id for trial in event.shard.trials),
    )
    store.put(plan.keys.failure(row.shard_id, row.attempt_id), seal(as_json(row)))


def _tidy(store: Store, plan: Plan) -> None:
    """Deletes the checkpoints that workers left which were killed after their commit."""
    keys = store.list(plan.keys.shards)
    done = {shard.shard_id for shard in with_commit(plan, keys)}
    for key in keys:
        of = plan.keys.parse(key)
        if of and of.kind == "checkpoint" and of.shard in done:
            store.delete(key)
