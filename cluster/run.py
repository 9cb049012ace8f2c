"""From a declared sweep to tables: every check first, then the work, then the report."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from cluster.driver.drive import drive
from cluster.experiment import Experiment
from cluster.nodes.resources import Resources, ray_environment
from cluster.preflight.before import require_ready
from cluster.results.collect import collect
from cluster.results.publish import print_next, publish, require_complete
from cluster.results.reading import read_commits
from cluster.sweeps.estimate import Estimate
from cluster.sweeps.plan import Plan, Shard, adopt_plan, make_plan, store_plan
from cluster.sweeps.preview import cost_line, expected_time, print_plan
from cluster.sweeps.sweep import Sweep
from pcworker.errors import InputError
from pcworker.machine.provenance import command_line, provenance
from pcworker.plain import as_json
from pcworker.store.patient import PatientStore
from pcworker.store.store import open_store


@dataclass(frozen=True)
class RunOptions:
    """How a sweep is run; nothing of it changes a result."""

    store: str
    s3_endpoint: str | None
    sweep: str | None
    """None: a name from the trial set."""
    data: Path | None
    address: str | None
    resources: Resources
    checkpoint_every: int
    plan_only: bool
    no_preflight: bool
    price_per_gpu_hour: float | None
    """For the plan; None: no cost is printed."""


def run_sweep(
    experiment: Experiment, sweep: Sweep[Any], options: RunOptions, console: Console
) -> int:
    """Runs what is missing of `sweep`, prints and stores its tables; returns the exit code."""
    _require_lasting(options.store)
    if options.price_per_gpu_hour is not None and not options.plan_only:
        raise InputError("--price-per-gpu-hour is for the estimate of --plan; give both, or none")
    opened = open_store(options.store, options.s3_endpoint)
    name = sweep.default_name(experiment.prefix) if options.sweep is None else options.sweep
    plan = adopt_plan(opened, make_plan(experiment, sweep, name))
    opened.check()
    store = PatientStore(opened, lambda message: console.print(message, style="yellow"))
    done = read_commits(store, plan)
    left = [shard for shard in plan.shards if shard.shard_id not in done]
    if options.plan_only:
        if options.data is not None:
            experiment.find_data(options.data, plan.trials)
        expected = _expected(plan, left, options)
        price = options.price_per_gpu_hour
        cost = None if price is None else cost_line(expected, options.resources, price)
        print_plan(console, plan, left, expected, cost)
        return 0
    quarantined = 0
    if left:
        data = experiment.find_data(options.data, plan.trials)
        expected = _expected(plan, left, options)
        look = partial(
            require_ready,
            store=opened,
            needs=options.resources,
            experiment=experiment,
            left=left,
            data=data,
            console=console,
        )
        started = time.monotonic()
        plan, quarantined = drive(
            opened,
            store,
            plan,
            data,
            address=ray_environment(options.address),
            resources=options.resources,
            checkpoint_every=options.checkpoint_every,
            console=console,
            expected=str(expected),
            look=None if options.no_preflight else look,
        )
        took = (time.monotonic() - started) / 60
        console.print(f"Took {took:.1f} minutes; expected were {expected.wall_seconds / 60:.1f}.")
    else:
        plan = store_plan(store, plan, as_json(provenance(command_line())))
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


def _expected(plan: Plan[Any], left: Sequence[Shard], options: RunOptions) -> Estimate:
    return expected_time(plan, left, options.resources, ray_environment(options.address))


def _require_lasting(store: str) -> None:
    """A submitted job runs in a folder that Ray has unpacked, and throws away some day."""
    lasting = "://" in store or Path(store).is_absolute()
    if not lasting and "_ray_pkg_" in os.getcwd():
        raise InputError(
            f"store {store}: a submitted job's own folder does not last; give --store "
            "s3://bucket/prefix, or the full path of a directory that every node shares"
        )
