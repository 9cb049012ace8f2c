"""Measures how long it takes to plan a sweep of many trials, and how much memory: Figure 3's 156
trials for each seed are declared, packed, stored, adopted, read and summed up.

    python tests/support/planning.py [--trials N] [--store DIRECTORY]
"""

import argparse
import io
import resource
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TypeVar

from rich.console import Console

from cluster.sweeps.estimate import estimate
from cluster.sweeps.plan import Plan, make_plan
from cluster.sweeps.preview import print_plan
from cluster.sweeps.stored import adopt_plan, read_plan, store_plan
from cluster.sweeps.sweep import Sweep
from jobs.experiments import EXPERIMENTS
from jobs.mnist_ablation.experiment import ABLATION
from jobs.mnist_ablation.sweep import mnist_ablation
from pcworker.store.local import LocalStore

TRIALS = 1_000_000
NETWORKS = ("784-32-10", "784-32-32-10", "784-32-32-32-10")
STEPS = (None, 0, 1, 2, 3, 4, 16, 64)
GAMMAS = (0.01, 0.1, 0.5, 1.0, 5.0, 10.0)
SIGMAS = (0.0, 0.0001, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
_PER_SEED = 156
_T = TypeVar("_T")


def sweep_of(trials: int) -> Sweep:
    """Figure 3 with the fewest seeds that make so many trials."""
    seeds = range(1, 1 + -(-trials // _PER_SEED))
    return mnist_ablation(networks=NETWORKS, seeds=seeds, t=STEPS, gamma=GAMMAS, sigma=SIGMAS)


def step(name: str, work: Callable[[], _T]) -> _T:
    """Does a part of the work, and prints what it took."""
    wall, computed = time.perf_counter(), time.process_time()
    done = work()
    wall, computed = time.perf_counter() - wall, time.process_time() - computed
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{name:<24} {wall:6.1f} s, computing {computed:6.1f} s; peak {peak:5.0f} MiB")
    return done


def plan_in(store: LocalStore, trials: int) -> Plan:
    """Plans as a submission does, and then as the same command typed again."""
    sweep = step("declare", lambda: sweep_of(trials))
    name = step("name the trial set", lambda: sweep.default_name("mnist"))
    plan = step("pack", lambda: make_plan(ABLATION, sweep, name))
    step("store", lambda: store_plan(store, plan, {}))
    step("adopt again", lambda: adopt_plan(store, plan))
    return plan


def preview_of(plan: Plan) -> int:
    """Prints the plan to nobody, and returns the number of lines."""
    text = io.StringIO()
    expected = estimate(plan, plan.shards, workers=2)
    print_plan(Console(file=text, width=120), plan, plan.shards, expected)
    return len(text.getvalue().splitlines())


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="What it takes to plan a sweep of many trials.")
    parser.add_argument("--trials", type=int, default=TRIALS)
    parser.add_argument("--store", type=Path, help="An empty directory.  [default: a temporary]")
    options = parser.parse_args()
    folder = nullcontext(options.store) if options.store else tempfile.TemporaryDirectory()
    with folder as path:
        store, started = LocalStore(Path(path)), time.perf_counter()
        plan = plan_in(store, options.trials)
        print(f"{'planned in all':<24} {time.perf_counter() - started:6.1f} s")
        read = step("read, as jobs.status", lambda: read_plan(store, plan.name, EXPERIMENTS))
        assert read == plan
        lines = step("estimate and sum up", lambda: preview_of(plan))
        sizes = {key: len(store.get(key) or b"") for key in store.list(plan.keys.folder)}
    print(
        f"{len(plan.trials):,} trials in {len(plan.shards):,} shards; --plan prints {lines} lines"
    )
    print(", ".join(f"{Path(key).name}: {size:,} bytes" for key, size in sizes.items()))


if __name__ == "__main__":
    main()
