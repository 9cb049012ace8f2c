"""The driver of a sweep: it dispatches the shards that have no commit, and keeps the record.

It has no state of its own. Everything that is true of a sweep is in the store, so a driver may be
killed at any time, and the next one goes on.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from cluster.driver.budget import Budget, Ledger
from cluster.driver.crew import in_words
from cluster.driver.dispatch import Dispatcher, Ending
from cluster.driver.events import Event
from cluster.driver.hangs import Watch
from cluster.driver.progress import SweepProgress
from cluster.driver.record.clerk import Clerk
from cluster.driver.record.heartbeat import Heartbeat
from cluster.driver.site import Listener, Site
from cluster.nodes.prices import Prices
from cluster.nodes.resources import Resources
from cluster.preflight.before import require_ready
from cluster.results.reading import done_shards, with_commit
from cluster.sweeps.plan import Plan, Shard
from cluster.sweeps.stored import store_plan
from pcworker.machine.provenance import command_line, provenance
from pcworker.plain import as_json
from pcworker.store.store import Store
from pcworker.text import counted, in_a_line
from pcworker.worker import Work


@dataclass(frozen=True)
class Assignment:
    """A sweep that a driver is to run, and how."""

    plan: Plan[Any]
    left: Sequence[Shard]
    """The shards that had no commit when the driver looked last."""
    opened: Store
    """The store, as the workers open it."""
    store: Store
    """The same store as the driver uses it: during an outage it waits."""
    data: Any
    """The data for the workers' engines."""
    resources: Resources
    checkpoint_every: int
    hang_minutes: float
    """The minutes without progress after which an attempt is taken to hang."""
    budget: Budget
    prices: Prices
    preflight: bool
    """True if the driver, and every worker, first looks for what would break the sweep."""
    expected: str
    """About how long it takes, in words."""
    environment: Mapping[str, str]
    """Environment variables with which the workers' processes start."""


def drive(
    assignment: Assignment, site: AbstractContextManager[Site], console: Console
) -> tuple[Plan[Any], Ending]:
    """Runs the shards that have no commit. Returns the plan that was followed, which is the stored
    one, and how that ended.

    site  where the workers are to run: `on_ray` or `in_this_process`
    """
    with site as here:
        console.print(f"Running {here.where}.")
        console.print(f"About {assignment.expected}.")
        if assignment.preflight:
            _look(assignment, here, console)
        plan, ending = _dispatch(assignment, here, console)
    _tidy(assignment.store, plan)
    return plan, ending


def _dispatch(assignment: Assignment, site: Site, console: Console) -> tuple[Plan[Any], Ending]:
    """Stores the plan and runs its shards; returns as `drive` does."""
    started = time.monotonic()
    store, work = assignment.store, _work(assignment)
    pool = site.pool(work, assignment.data)
    plan = store_plan(store, assignment.plan, as_json(provenance(work.command)))
    done = done_shards(store, plan)
    listeners: list[Listener] = []
    if site.metrics is not None:
        listeners.append(site.metrics(plan.name, len(plan.shards), len(done)))
    with (
        SweepProgress(console, plan.seconds, done, debug=site.for_debugging) as progress,
        Clerk(assignment.opened, store, plan) as clerk,
    ):
        listeners += [progress, clerk]

        def hear(event: Event) -> None:
            for listener in listeners:
                listener.hear(event)

        def relay() -> None:
            for trouble in clerk.told():
                hear(trouble)

        for event in pool.start(len(plan.shards) - len(done), relay):
            hear(event)
        if assignment.resources.gpus and pool.workers:
            console.print(f"At work: {in_words(pool.workers)}.", soft_wrap=True)
        others = _others(clerk.heartbeat, console)
        left = [shard for shard in plan.shards if shard.shard_id not in done]
        console.print(
            f"Sweep {plan.name}: {counted(len(plan.trials), 'trial')} in "
            f"{counted(len(plan.shards), 'shard')}, {len(done):,} committed already, "
            f"in {store.url}",
            soft_wrap=True,
        )
        watch = Watch(plan.seconds, assignment.hang_minutes * 60)
        ledger = Ledger(assignment.budget, assignment.prices, assignment.resources, started)
        dispatcher = Dispatcher(pool, watch, ledger, hear)
        return plan, dispatcher.run(left[::-1] if others else left, clerk, longest_first=not others)


def _look(assignment: Assignment, site: Site, console: Console) -> None:
    """Raises InputError, before anything is written, if the sweep should not start."""
    require_ready(
        site.cluster,
        store=assignment.opened,
        needs=assignment.resources,
        plan=assignment.plan,
        left=assignment.left,
        data=assignment.data,
        environment=assignment.environment,
        console=console,
    )


def _work(assignment: Assignment) -> Work:
    plan, needs = assignment.plan, assignment.resources
    experiment = plan.experiment
    return Work(
        sweep=plan.name,
        store=assignment.opened,
        device=needs.device,
        cpus=int(needs.cpus),
        places=None if needs.gpus and plan.same_on_every_device else 1,
        gpu_share=needs.gpus,
        checkpoint_every=assignment.checkpoint_every,
        command=tuple(command_line()),
        make_engine=experiment.engine,
        tables=experiment.tables,
        environment=assignment.environment,
        exact_sums=plan.sums if assignment.preflight and experiment.exact else None,
    )


def _others(heartbeat: Heartbeat, console: Console) -> bool:
    """True if another driver is at work on the first shards, so that this one should begin with the
    last."""
    others = heartbeat.others()
    if others:
        hosts = ", ".join(in_a_line(driver.hostname) for driver in others)
        console.print(
            f"Another driver seems alive, on {hosts}: working from the last shard on. (If it has "
            "just been killed, nothing is wrong.)"
        )
    return bool(others)


def _tidy(store: Store, plan: Plan[Any]) -> None:
    """Deletes the checkpoints that workers left which were killed after their commit."""
    keys = store.list(plan.keys.shards)
    done = {shard.shard_id for shard in with_commit(plan, keys)}
    for key in keys:
        of = plan.keys.parse(key)
        if of and of.kind == "checkpoint" and of.shard in done:
            store.delete(key)
