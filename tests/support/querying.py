"""Measures how long a question takes: a command from its start to its end, over made-up sweeps.

python tests/support/querying.py [--shards N] [--rows N]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from many_commits import NAME, TRIALS, Unsynced, made_in_two_processes, plan_of_many
from running import ROOT

from cluster.results.collect import collect, write_tables
from cluster.sweeps.plan import Plan
from cluster.sweeps.stored import store_plan
from pcworker.store.parquet import RowWriter

QUESTIONS = {
    "SQL over trials": ["SELECT rule, t, avg(final_test_error) FROM trials GROUP BY ALL"],
    "trials in a few words": ["--table", "trials", "--columns", "final_test_error"],
    "SQL over divergence": ["SELECT rule, count(*) FROM divergence WHERE exact GROUP BY ALL"],
}
OF_EPOCHS = {
    "SQL over epochs": [
        "SELECT epoch, avg(test_error), stddev(test_error) FROM epochs GROUP BY ALL"
    ],
    "epochs in a few words": [
        *("--table", "epochs", "--group-by", "rule,t,epoch", "--columns", "test_error"),
    ],
}
TIMES = 3
_OF_CHILDREN = ("children_user", "children_system")
_AT_ONCE = 100
"""The number of epochs of all trials that are in memory at once."""


class Took(NamedTuple):
    """The seconds of one call of the command."""

    wall: float
    processor: float
    """The time of the cores, which other programs make no longer."""


def seconds(folder: Path, words: list[str]) -> Took:
    """The time of one call of the command, in a new process: the shortest of TIMES."""
    return min(_once(folder, words) for _ in range(TIMES))


def _once(folder: Path, words: list[str]) -> Took:
    command = [sys.executable, "-m", "jobs.query", "--store", str(folder), "--sweep", NAME, *words]
    begin, before = time.perf_counter(), os.times()
    subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    after = os.times()
    user, system = (getattr(after, f) - getattr(before, f) for f in _OF_CHILDREN)
    return Took(time.perf_counter() - begin, user + system)


def with_epochs(folder: Path, plan: Plan, rows: int) -> int:
    """Replaces the collected table `epochs` by one with about so many rows, and returns how many
    these are."""
    path = folder / plan.keys.table("epochs")
    one = pq.read_table(path)
    epochs, random = rows // len(one), np.random.default_rng(0)
    writer = RowWriter(path, one.schema)
    for first in range(1, epochs + 1, _AT_ONCE):
        for epoch in range(first, min(first + _AT_ONCE, epochs + 1)):
            writer.add(_after(one, epoch, random))
    writer.close()
    return epochs * len(one)


def _after(one: pa.Table, epoch: int, random: np.random.Generator) -> pa.Table:
    """The rows of all trials after one epoch, with errors that were drawn."""
    new = {"epoch": np.full(len(one), epoch, "i4"), "test_error": random.random(len(one))}
    for name, values in new.items():
        one = one.set_column(
            one.schema.get_field_index(name), one.schema.field(name), pa.array(values)
        )
    return one


def measured(shards: int, rows: int) -> Iterator[tuple[str, Took]]:
    """Yields what was asked, and the seconds that the answer took."""
    with tempfile.TemporaryDirectory() as name:
        folder, plan = Path(name), plan_of_many(shards)
        store = Unsynced(folder)
        store_plan(store, plan, {})
        made_in_two_processes(folder, shards, shards)
        for what, words in QUESTIONS.items():
            yield f"{shards} shards, not collected: {what}", seconds(folder, words)
        write_tables(store, collect(store, [plan]))
        for what, words in QUESTIONS.items():
            yield f"{shards} shards, collected: {what}", seconds(folder, words)
        found = with_epochs(folder, plan, rows)
        for what, words in OF_EPOCHS.items():
            yield f"{found:,} rows of epochs, collected: {what}", seconds(folder, words)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="How long a question takes.")
    parser.add_argument("--shards", type=int, default=400)
    parser.add_argument("--rows", type=int, default=5_000_000)
    options = parser.parse_args()
    print(f"{os.cpu_count()} cores, {TRIALS} trials in a shard", flush=True)
    for what, took in measured(options.shards, options.rows):
        print(f"{took.wall:5.2f} s, {took.processor:5.2f} of processor: {what}", flush=True)


if __name__ == "__main__":
    main()
