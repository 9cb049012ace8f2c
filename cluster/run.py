"""Runs a declared sweep: first every check, then the work, then the tables and the report."""

import math
import os
import shlex
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from cluster.driver.budget import Budget
from cluster.driver.dispatch import Ending
from cluster.driver.drive import Assignment, drive
from cluster.driver.site import Site, in_this_process, on_ray
from cluster.experiment import Experiment
from cluster.nodes.prices import Prices
from cluster.nodes.resources import Resources, ray_environment
from cluster.report.publish import print_next, publish
from cluster.results.reading import read_commits
from cluster.sweeps.estimate import Estimate
from cluster.sweeps.plan import Plan, Shard, make_plan
from cluster.sweeps.preview import cost_line, expected_time, print_plan
from cluster.sweeps.stored import adopt_plan, store_plan
from cluster.sweeps.sweep import Sweep
from pcworker.errors import InputError
from pcworker.machine.processor import SAME_EVERYWHERE
from pcworker.machine.provenance import command_line, provenance
from pcworker.plain import as_json
from pcworker.store.patient import PatientStore
from pcworker.store.store import Store, open_store
from pcworker.text import counted

STOPPED = 3
"""The exit code of a sweep that was stopped because its budget was used up."""


@dataclass(frozen=True)
class RunOptions:
    """The options of a run. None of them changes a result."""

    store: str
    s3_endpoint: str | None
    sweep: str | None
    """The sweep's name. None: a name that is made from the set of trials."""
    data: Path | None
    """The directory of the data set. None: wherever the experiment finds it."""
    address: str | None
    """The Ray cluster. None: RAY_ADDRESS, or else a local Ray."""
    resources: Resources
    checkpoint_every: int
    hang_minutes: float
    """The minutes without progress after which an attempt is taken to hang."""
    plan_only: bool
    no_preflight: bool
    price_per_gpu_hour: float | None
    price_per_core_hour: float | None
    max_hours: float | None
    """The hours after which the sweep is stopped. None: it is not."""
    max_cost: float | None
    """The cost, by the prices, at which the sweep is stopped. None: it is not."""
    local_debug: bool
    """True: train in this process, without Ray."""
    same_everywhere: bool
    """True: torch's own sums have the same bits on all x86 processors with AVX2."""

    def __post_init__(self) -> None:
        if not 0 < self.hang_minutes < math.inf:
            raise InputError(
                f"--hang-minutes {self.hang_minutes:g}: give a finite number greater than 0"
            )
        self._require_prices_that_count()
        if self.local_debug and (contradicting := self._not_in_one_process()):
            raise InputError(
                "--local-debug trains in this process, one shard at a time, on its CPU: leave out "
                f"{', '.join(contradicting)}, or leave out --local-debug"
            )

    @property
    def prices(self) -> Prices:
        """The prices of an hour. Raises InputError if one is negative or not finite."""
        return Prices(gpu=self.price_per_gpu_hour, core=self.price_per_core_hour)

    @property
    def budget(self) -> Budget:
        """The most that the run may use. Raises InputError if it is not a positive number."""
        return Budget(hours=self.max_hours, cost=self.max_cost)

    def _require_prices_that_count(self) -> None:
        """Raises InputError if prices or limits are given that would do nothing."""
        limited = self.budget.cost is not None
        if self.prices.given and not (self.plan_only or limited):
            raise InputError(
                "--price-per-gpu-hour and --price-per-core-hour are for the estimate of --plan, "
                "and for --max-cost: give one of these too, or no price"
            )
        if limited and not self.prices.of(self.resources):
            raise InputError(
                f"--max-cost {self.max_cost:g}: by these prices a worker of {self.resources} costs "
                "nothing; give --price-per-core-hour or --price-per-gpu-hour"
            )

    def _not_in_one_process(self) -> list[str]:
        needs = self.resources
        given = {
            f"--address {self.address}": self.address is not None,
            f"--workers {needs.workers}": needs.workers not in (None, 1),
            f"--gpus-per-worker {needs.gpus:g}": needs.gpus > 0,
            f"--cpu-workers {needs.cpu_workers}": needs.cpu_workers > 0,
        }
        return [option for option, is_given in given.items() if is_given]


def run_sweep(
    experiment: Experiment, sweep: Sweep[Any], options: RunOptions, console: Console
) -> int:
    """Runs the shards of `sweep` that have no commit, prints and stores its tables, and returns the
    exit code."""
    _require_lasting(options.store)
    opened = open_store(options.store, options.s3_endpoint)
    name = sweep.default_name(experiment.prefix) if options.sweep is None else options.sweep
    plan = adopt_plan(opened, make_plan(experiment, sweep, name))
    if plan.sums == "fixed":
        _require_fit_for_fixed_sums(plan.experiment, options)
    _require_alike(plan, options.resources)
    opened.check()
    store = PatientStore(opened, lambda message: console.print(message, style="yellow"))
    done = set(read_commits(store, plan))  # the commits themselves would take much memory
    left = [shard for shard in plan.shards if shard.shard_id not in done]
    if options.plan_only:
        _preview(plan, left, options, console)
        return 0
    ending = Ending(())
    if left:
        plan, ending = _run(plan, left, opened, store, options, console)
    else:
        plan = store_plan(store, plan, as_json(provenance(command_line())))
        console.print(f"Sweep {plan.name}: all {len(plan.shards)} shards are committed already.")
    if ending.stopped is not None:
        return STOPPED
    quarantined = len(ending.quarantined)
    differs = _report(store, plan, quarantined, console)
    return 1 if quarantined or differs else 0


def _preview(plan: Plan[Any], left: Sequence[Shard], options: RunOptions, console: Console) -> None:
    """Prints the plan, and starts nothing."""
    if options.data is not None:
        plan.experiment.find_data(options.data, plan.trials)
    expected = _expected(plan, left, options)
    prices = options.prices
    cost = cost_line(expected, options.resources, prices) if prices.given else None
    print_plan(console, plan, left, expected, cost)


def _run(
    plan: Plan[Any],
    left: Sequence[Shard],
    opened: Store,
    store: Store,
    options: RunOptions,
    console: Console,
) -> tuple[Plan[Any], Ending]:
    """Runs the shards `left`. Returns as `drive` does."""
    data = plan.experiment.find_data(options.data, plan.trials)
    expected = _expected(plan, left, options)
    started = time.monotonic()
    assignment = Assignment(
        plan=plan,
        left=left,
        opened=opened,
        store=store,
        data=data,
        resources=options.resources,
        checkpoint_every=options.checkpoint_every,
        hang_minutes=options.hang_minutes,
        budget=options.budget,
        prices=options.prices,
        preflight=not options.no_preflight,
        expected=str(expected),
        environment=_environment(plan.experiment, options),
    )
    followed, ending = drive(assignment, _site(assignment, options, console), console)
    took = (time.monotonic() - started) / 60
    if ending.stopped is None:
        console.print(f"Took {took:.1f} minutes; expected were {expected.wall_seconds / 60:.1f}.")
    else:
        _print_left(followed, ending, expected, console)
    return followed, ending


def _print_left(plan: Plan[Any], ending: Ending, expected: Estimate, console: Console) -> None:
    """Says what is left of a sweep that was stopped, and how it goes on."""
    minutes = sum(expected.seconds.get(shard.shard_id, 0.0) for shard in ending.left) / 60
    failed = f", and {len(ending.quarantined)} failed" if ending.quarantined else ""
    console.print(
        f"Stopped: {ending.stopped}. This leaves {len(ending.left):,} of "
        f"{counted(len(plan.shards), 'shard')}{failed}: at most {minutes:.1f} worker minutes, "
        "less what their checkpoints hold. Everything is kept; the same command goes on from "
        "there:",
        style="yellow",
        soft_wrap=True,
    )
    console.print(f"  {shlex.join(command_line())}", soft_wrap=True)


def _environment(experiment: Experiment, options: RunOptions) -> dict[str, str]:
    """The environment variables with which a worker's process starts."""
    return {**experiment.environment, **(SAME_EVERYWHERE if options.same_everywhere else {})}


def _site(
    assignment: Assignment, options: RunOptions, console: Console
) -> AbstractContextManager[Site]:
    """Chooses the site where the workers are to run."""
    if not options.local_debug:
        return on_ray(ray_environment(options.address), options.resources)
    given = assignment.environment.items()
    if lacking := [f"{name}={value}" for name, value in given if os.environ.get(name) != value]:
        console.print(
            f"A worker's process would start with {' '.join(lacking)}, and this one did not: "
            "measured times, and torch's own sums, may differ.",
            style="yellow",
            soft_wrap=True,
        )
    return in_this_process()


def _report(store: Store, plan: Plan[Any], quarantined: int, console: Console) -> bool:
    """Collects the tables, stores and prints them, and says what to do next. Returns True if what
    was computed more than once differs."""
    collected = publish(store, [plan], console, partial=quarantined > 0)
    print_next(store, collected, console)
    if quarantined:
        console.print(
            f"{counted(quarantined, 'shard')} failed; what is done is committed. The table "
            "`failures` has the tracebacks; the same command tries them again.",
            style="red",
        )
    return bool(collected.audit.differing)


def _expected(plan: Plan[Any], left: Sequence[Shard], options: RunOptions) -> Estimate:
    """Estimates how long the shards `left` take."""
    if options.local_debug:
        return expected_time(plan, left, replace(options.resources, workers=1), None)
    return expected_time(plan, left, options.resources, ray_environment(options.address))


def _require_fit_for_fixed_sums(experiment: Experiment, options: RunOptions) -> None:
    """Raises InputError if the options are for torch's own sums alone."""
    needs = options.resources
    if options.same_everywhere:
        raise InputError(
            "--same-everywhere is for --sums library: the fixed sums have the same bits on every "
            "machine anyway; leave one of them out"
        )
    on_gpus = needs.device == "cuda" or (needs.device == "auto" and needs.gpus > 0)
    if on_gpus and not experiment.fixed_on_gpus:
        raise InputError(
            f"--device {needs.device} with --gpus-per-worker {needs.gpus:g}: {experiment.name} has "
            "no kernel for a GPU in the fixed sums; leave both out, so that CPU cores train, or "
            "give --sums library"
        )


def _require_alike(plan: Plan[Any], needs: Resources) -> None:
    """Raises InputError if CPU workers are to be beside GPU workers, and results differ there."""
    if needs.cpu_workers and not plan.same_on_every_device:
        raise InputError(
            f"--cpu-workers {needs.cpu_workers}: the results of this sweep depend on the device "
            "that computes them, so that CPU and GPU workers must not be mixed; leave it out, or "
            "give --sums fixed if the job has that option"
        )


def _require_lasting(store: str) -> None:
    """Raises InputError if results would go to the folder in which Ray has unpacked a submitted
    job: Ray deletes it some day."""
    lasting = "://" in store or Path(store).is_absolute()
    if not lasting and "_ray_pkg_" in os.getcwd():
        raise InputError(
            f"store {store}: a submitted job's own folder does not last; give --store "
            "s3://bucket/prefix, or the full path of a directory that every node shares"
        )
