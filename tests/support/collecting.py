"""Measures the collector over many made-up commits of ten trials each: its time, its memory and its
requests, the first time, again, and after a few new commits.

    python tests/support/collecting.py [--commits N] [--store DIRECTORY]
    python tests/support/collecting.py --s3 [--commits N]     behind a proxy that adds 5 ms
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faulty_proxy import faulty_proxy
from many_commits import (
    NAME,
    TRIALS,
    Unsynced,
    commit_many,
    made_in_two_processes,
    plan_of_many,
)
from running import ROOT
from seaweed import seaweed

from cluster.results.collect import collect, stored_plans, write_tables
from cluster.sweeps.stored import store_plan
from jobs.experiments import EXPERIMENTS
from pcworker.store.store import Store, open_store

DELAY_S = 0.005
NEW = 10
"""The number of commits that are made after the second collector."""


@dataclass(frozen=True)
class Measured:
    """One call of the collector."""

    seconds: float
    mib: float
    """The largest memory of its process."""
    calls: dict[str, int]
    """The calls of the store, by operation."""
    trials: int
    exact: bool

    def __str__(self) -> str:
        calls = ", ".join(f"{count:,} {name}" for name, count in self.calls.items())
        return f"{self.seconds:.0f} s, {self.mib:.0f} MiB at most, calls of the store: {calls}"


class Counted:
    """A store whose calls are counted."""

    def __init__(self, store: Store) -> None:
        self._store, self.calls = store, Counter[str]()

    def __getattr__(self, name: str) -> Any:
        if name in ("get", "put", "put_if_absent", "list", "delete"):
            self.calls[name] += 1
        return getattr(self._store, name)


def measured(store: Store, commits: int) -> Measured:
    """Reads the plan, which is not timed, collects, and writes the tables. Nothing else may have
    run in this process."""
    plans, counted = stored_plans(store, [NAME], EXPERIMENTS), Counted(store)
    started = time.perf_counter()
    made = collect(counted, plans)
    write_tables(counted, made)
    seconds = time.perf_counter() - started
    assert made.damaged == made.audit.differing == ()
    return Measured(
        seconds=seconds,
        mib=_peak_mib(),
        calls=dict(counted.calls),
        trials=commits * TRIALS - len(made.missing),
        exact=all(made.tables["divergence"]["exact"].to_pylist()),
    )


def _peak_mib() -> float:
    """The largest memory of this process. `resource.getrusage` would count the parent's too, which
    the process shared until it began with its own program."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def in_a_process(url: str, endpoint: str | None, commits: int) -> Measured:
    """Measures one call in a process of its own."""
    command = [sys.executable, __file__, "--url", url, "--commits", str(commits)]
    command += ["--endpoint", endpoint] if endpoint else []
    here = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env=here)
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def three_times(url: str, endpoint: str | None, commits: int, more: Store) -> Iterator[Measured]:
    """Collects all but NEW commits, the same again, and all.

    more  the store, to which the plan and the last commits are added
    """
    plan = plan_of_many(commits)
    store_plan(more, plan, {})
    yield in_a_process(url, endpoint, commits)
    yield in_a_process(url, endpoint, commits)
    commit_many(more, plan, plan.shards[-NEW:])
    yield in_a_process(url, endpoint, commits)


@contextmanager
def in_a_bucket(commits: int) -> Iterator[Iterator[Measured]]:
    """Measures on an S3 server to whose every request DELAY_S is added."""
    with tempfile.TemporaryDirectory() as folder, seaweed(Path(folder)) as server:
        os.environ |= server.server.environment()
        url, plan = f"s3://{server.server.bucket}/many", plan_of_many(commits)
        store = open_store(url, server.server.endpoint)
        with ThreadPoolExecutor(8) as pool:
            shards = plan.shards[:-NEW]
            list(pool.map(lambda k: commit_many(store, plan, shards[k::8]), range(8)))
        with faulty_proxy(server.server.endpoint) as proxy:
            proxy.delay_s = DELAY_S
            yield three_times(url, proxy.endpoint, commits, store)
            print(f"{proxy.requests:,} requests in all")


@contextmanager
def in_a_directory(commits: int, given: Path | None) -> Iterator[Iterator[Measured]]:
    """Measures on a directory: a temporary one, or one that has the commits already."""
    with tempfile.TemporaryDirectory() as folder:
        root = given or Path(folder)
        if not given:
            made_in_two_processes(root, commits, commits - NEW)
        yield three_times(str(root), None, commits, Unsynced(root))


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="What it takes to collect many commits.")
    parser.add_argument("--commits", type=int)
    parser.add_argument("--store", type=Path, help="A directory that has all but the last commits.")
    parser.add_argument("--s3", action="store_true")
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--endpoint", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.url:
        found = measured(open_store(options.url, options.endpoint), options.commits)
        print(json.dumps(vars(found)))
        return
    commits = options.commits or (2_000 if options.s3 else 100_000)
    place = in_a_bucket(commits) if options.s3 else in_a_directory(commits, options.store)
    with place as each:
        for when, found in zip(
            ("The first time", "Again", f"{NEW} new commits"), each, strict=True
        ):
            print(f"{when}: {found.trials:,} trials, {found}", flush=True)
            assert found.exact


if __name__ == "__main__":
    main()
