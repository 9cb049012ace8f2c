"""Measures what a shard costs besides its training. 2,000 shards go through plan, dispatch, actor,
commit and collector; their engine makes up its results at once.

    python tests/support/overhead.py [--shards N] [--store DIRECTORY] [--dispatch-only]
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from builders import shard_result
from dispatching import Known, dispatcher

from cluster.driver.events import Event, Finished
from cluster.nodes.resources import Resources, ray_environment
from cluster.sweeps.plan import Plan, make_plan
from cluster.sweeps.stored import store_plan
from cluster.sweeps.sweep import Cell, declare
from jobs.mnist_ablation.experiment import ABLATION
from pcworker.store.local import LocalStore
from pcworker.store.store import Store
from pcworker.store.tables import SHARD_TABLES
from pcworker.training.results import ShardResult
from pcworker.trials.configuration import configuration
from pcworker.trials.trial import Trial

SHARDS = 2000
EARLY = 500
"""After this number of shards everything that is made only once exists, and the driver's memory
should not grow any more."""
PROCESSES = {
    "gcs/gcs_server": "GCS",
    "dashboard/dashboard.py": "dashboard",
    "ray::DashboardAgent": "dashboard agent",
    "raylet/raylet": "raylet",
    "ray::WorkerActor": "worker",
}
"""The names of Ray's processes, by a part of their command lines."""
ONE_WORKER = Resources(workers=1, cpus=1, gpus=0, device="cpu")


class MakesUp:
    """An engine that trains nothing."""

    def __init__(self, data: Any, device: Any) -> None:
        del data, device

    def run(self, trials: Sequence[Trial], **_: Any) -> ShardResult:
        return shard_result(trials)


@dataclass(frozen=True)
class Overhead:
    """The measurements of one run."""

    shards: int
    wall_ms: tuple[float, ...]
    """The times from the end of one shard to the end of the next."""
    driver_ms: tuple[float, ...]
    """The driver's CPU times between the same moments."""
    memory: Mapping[int, Mapping[str, int]]
    """The bytes in memory of the driver and of Ray's own processes, by the number of shards that
    were done. The first number is EARLY, or half of the shards if they are fewer than twice
    EARLY."""

    @property
    def growth(self) -> int:
        """The bytes by which the driver's memory has grown between the first and the last time."""
        return self.memory[max(self.memory)]["driver"] - self.memory[min(self.memory)]["driver"]

    def __str__(self) -> str:
        lines = [
            f"{self.shards} shards by one worker, each with its files on the disk: "
            f"{statistics.mean(self.wall_ms):.1f} ms a shard in all "
            f"(median {statistics.median(self.wall_ms):.1f}), of which the driver computes "
            f"{statistics.median(self.driver_ms):.1f} ms (median); MiB in memory:"
        ]
        for shards, found in self.memory.items():
            each = ", ".join(f"{name} {size / 2**20:.1f}" for name, size in found.items())
            lines.append(f"  after {shards:6} shards: {each}")
        return "\n".join(lines)


def plan_of(shards: int) -> Plan:
    """A plan with one shard for each seed. Each shard is one trial of BP."""
    cell = Cell("rule", configuration(network="3-2-2", rule="BP"), None)
    plan = make_plan(ABLATION, declare([cell], range(1, shards + 1)), "overhead")
    assert [len(shard.trials) for shard in plan.shards] == [1] * shards
    return plan


def measured(on_ray: Any, store: Store, shards: int) -> Overhead:
    """Runs the plan.

    on_ray  the module `cluster.driver.pools.on_ray`, connected to a Ray
    """
    from pcworker.worker import Work

    plan, points = plan_of(shards), points_of(shards)
    store_plan(store, plan, {})
    work = Work(
        sweep=plan.name, store=store, device="cpu", cpus=1, make_engine=MakesUp, tables=SHARD_TABLES
    )
    pool = on_ray.RayPool(work, None, ONE_WORKER)
    pool.start(shards)
    clocks = [(time.perf_counter(), time.process_time())]
    memory: dict[int, dict[str, int]] = {}

    def tell(event: Event) -> None:
        if isinstance(event, Finished):
            assert event.outcome == "committed"
            clocks.append((time.perf_counter(), time.process_time()))
            if (done := len(clocks) - 1) in points:
                memory[done] = resident_bytes()

    assert not dispatcher(pool, tell).run(plan.shards, Known()).quarantined
    (walls, cpus) = zip(*clocks, strict=True)
    return Overhead(shards, _steps(walls), _steps(cpus), memory)


def collected(store: Path) -> str:
    """Runs the collector in a process of its own, and says how much time and memory it takes."""
    command = [sys.executable, "-m", "jobs.collect", "--store", str(store), "--sweep", "overhead"]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0
    seconds = time.perf_counter() - started
    return f"Collected in {seconds:.1f} s, {used.ru_maxrss / 1024:.0f} MiB at most"


def points_of(shards: int) -> set[int]:
    """The numbers of shards after which memory is looked at."""
    return {
        min(EARLY, shards // 2),
        *(max(EARLY, shards * part // 5) for part in range(1, 5)),
        shards,
    }


def resident_bytes() -> dict[str, int]:
    """The bytes in memory of this process and of its worker, and of Ray's processes beside them."""
    found = {"driver": _resident("self")}
    for pid in _below("self"):
        with suppress(OSError):  # it has just ended
            title = Path(f"/proc/{pid}/cmdline").read_text()
            if name := next((name for word, name in PROCESSES.items() if word in title), None):
                found[name] = found.get(name, 0) + _resident(pid)
    return found


def _below(pid: str) -> Iterator[str]:
    """The ids of all processes that a process has started, and of those that these have started."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in task.read_text().split():
                yield child
                yield from _below(child)


def _resident(pid: str) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _steps(seconds: Sequence[float]) -> tuple[float, ...]:
    return tuple(1000 * (b - a) for a, b in pairwise(seconds))


def main() -> None:
    """Measures and prints the overhead."""
    parser = argparse.ArgumentParser(description="What a shard costs beside its training.")
    parser.add_argument("--shards", type=int, default=SHARDS)
    parser.add_argument("--store", type=Path, help="An empty directory.  [default: a temporary]")
    parser.add_argument("--dispatch-only", action="store_true", help="Do not collect.")
    options = parser.parse_args()
    ray_environment(None)  # before ray is imported
    from cluster.driver.pools import on_ray
    from cluster.nodes import connect

    given = options.store
    folder = nullcontext(given) if given else tempfile.TemporaryDirectory()
    started = time.perf_counter()
    plan_of(options.shards)
    print(f"Planned in {time.perf_counter() - started:.1f} s")
    with folder as path:
        with connect.connected(None):
            print(measured(on_ray, LocalStore(Path(path)), options.shards))
        if not options.dispatch_only:
            print(collected(Path(path)))


if __name__ == "__main__":
    main()
