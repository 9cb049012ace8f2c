"""Shared by the tests of faults: one small sweep, its command line, and readers of its store.

Every test of faults ends with `assert_nothing_lost`. No test waits for a fixed time: it waits for
an object in the store, for a line that the driver prints, or for a process.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from command_lines import called
from running import (
    PATIENCE_S,
    ROOT,
    ProcessId,
    descendants,
    processes,
    wait_until,
    workers,
)
from tables import RESULTS, equal_tables

from pcworker.store.keys import SweepKeys
from pcworker.store.parquet import from_parquet
from pcworker.store.store import Store

NAME = "faults"
KEYS = SweepKeys(NAME)
NETWORKS = ("784-32-32-10", "784-32-10", "784-16-10")
"""Each network is one shard, which takes a few seconds."""
SHARDS = len(NETWORKS)
TRIALS = 2
"""Trials of each network: Z-IL, which does not begin at the predictions, and BP."""
EPOCHS = 3


def declared(*networks: str, epochs: int = EPOCHS) -> tuple[str, ...]:
    """The options that declare the sweep: TRIALS trials of each network."""
    return (
        *("--sweep", NAME, "--networks", ",".join(networks), "--epochs", str(epochs)),
        *("--t", "l", "--gamma", "1", "--sigma", "0.1", "--batch-size", "500"),
    )


SWEEP = declared(*NETWORKS)


class Job:
    """A running job, in a process group of its own. Its output goes to files, so that it can be
    read at any time."""

    def __init__(self, process: "subprocess.Popen[bytes]", out: Path, err: Path) -> None:
        self.process, self._out, self._err = process, out, err
        self.orphans: set[ProcessId] = set()
        """The processes that the job had started when it was killed."""

    @property
    def stdout(self) -> str:
        return self._out.read_text()

    @property
    def stderr(self) -> str:
        return self._err.read_text()

    def wait_for(self, condition: Callable[[], object], what: str) -> None:
        """Waits until `condition` is true. Fails if the job ends first, or if it takes too long.

        what  names the condition in the message of the failure
        """
        # 5 looks a second: many conditions list a store over HTTP
        met = wait_until(lambda: bool(condition()), self.process, every=0.2)
        assert met, f"never: {what}\n{self.stdout}\n{self.stderr}"

    def says(self, text: str) -> None:
        """Waits until the job has printed `text`."""
        self.wait_for(lambda: text in self.stdout, f"says {text!r}")

    def end(self) -> "Run":
        """Waits until the job has ended by itself."""
        code = self.process.wait(PATIENCE_S)
        return Run(code, self.stdout, self.stderr)

    def kill(self) -> None:
        """Sends SIGKILL to the driver only. What it had started may live on for a while."""
        self.orphans |= descendants(self.process.pid)
        self.process.kill()
        self.process.wait()


@dataclass(frozen=True)
class Run:
    """A job that has ended."""

    code: int
    stdout: str
    stderr: str

    def says_one_line(self, *parts: str) -> None:
        """Fails unless the job ended with code 2 and one line on stderr that holds all `parts`."""
        assert self.code == 2, self.stdout + self.stderr
        assert self.stderr.strip().count("\n") == 0, self.stderr
        assert all(part in self.stderr for part in parts), self.stderr
        assert "Traceback" not in self.stdout + self.stderr

    def events(self, name: str) -> list[dict[str, str]]:
        """The fields of those lines of the driver's log that report the event `name`."""
        lines = [line for line in self.stdout.splitlines() if f" event={name} " in line]
        return [dict(re.findall(r'(\w+)=("[^"]*"|\S+)', line)) for line in lines]


@contextmanager
def running(*command: str, extra: Mapping[str, str] | None = None) -> Iterator[Job]:
    """Runs a job. In the end, every process that it has started is killed.

    extra  environment variables in addition to those of this process
    """
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=ROOT,
                env=os.environ | dict(extra or {}),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        job = Job(process, out, err)
        with process:
            try:
                yield job
            finally:
                if process.poll() is None:
                    job.kill()
                for pid, _ in job.orphans & processes().keys():
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)


def arguments(store: Store, *options: str) -> tuple[str, ...]:
    """The words of the command that runs the sweep on a store."""
    return ("jobs.mnist_ablation", "--store", store.url, *SWEEP, *options)


def finished(*command: str, extra: Mapping[str, str] | None = None) -> Run:
    """Runs a job to its end."""
    with running(*command, extra=extra) as job:
        return job.end()


def here(module: str, *options: str) -> Run:
    """Runs a job to its end in this process. If it trains, `options` need --local-debug."""
    done = called(*options, module=module)
    return Run(int(str(done.code)), done.stdout, done.stderr)


def collected(store: Store, *options: str) -> Run:
    return here("jobs.collect", "--store", store.url, "--sweep", NAME, *options)


def commits(store: Store) -> dict[str, bytes]:
    """The bytes of each commit, by shard."""
    keys = [key for key in store.list(KEYS.shards) if key.endswith("/commit.json")]
    return {key.split("/")[-2]: store.get(key) or b"" for key in keys}


def attempts(store: Store, shard: str) -> set[str]:
    """The ids of the attempts that trained this shard to its end."""
    keys = store.list(KEYS.attempts(shard))
    return {key.split("/")[-2] for key in keys if key.endswith("/attempt.json")}


def unfinished(store: Store) -> dict[str, int]:
    """The epoch of the last checkpoint of each shard that has checkpoints but no commit."""
    found: dict[str, int] = {}
    for key in store.list(KEYS.shards):
        of = KEYS.parse(key)
        if of and of.kind == "checkpoint":
            found[of.shard] = max(found.get(of.shard, 0), int(of.epoch))
    done = commits(store) if found else {}
    return {shard: epoch for shard, epoch in found.items() if shard not in done}


def read_tables(store: Store) -> dict[str, pa.Table]:
    """The tables that the collector wrote to a store."""
    return {name: _table(store, name) for name in (*RESULTS,)}


def _table(store: Store, name: str) -> pa.Table:
    """A table of one file, or of parts if it might have been too large for one."""
    whole = store.get(KEYS.table(name))
    if whole is not None:
        return from_parquet(whole)
    parts = [key for key in store.list(KEYS.tables) if key.startswith(f"{KEYS.tables}{name}/")]
    return pa.concat_tables([from_parquet(store.get(key) or b"") for key in parts])


def failures(store: Store) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = from_parquet(
        store.get(KEYS.table("failures")) or b""
    ).to_pylist()
    return rows


def assert_nothing_lost(store: Store, before: Mapping[str, bytes], undisturbed: Store) -> None:
    """Fails unless every table equals that of the undisturbed sweep, every shard is committed, and
    none of the commits `before` has changed."""
    assert before.items() <= commits(store).items()
    assert len(commits(store)) == SHARDS
    ours, theirs = read_tables(store), read_tables(undisturbed)
    for name, table in ours.items():
        assert equal_tables(table, theirs[name]), f"{name} differs"


def assert_trained_once(store: Store, *but: str) -> None:
    """Fails if a shard has been trained to its end more than once. Shards in `but` may be."""
    ends = {shard: len(attempts(store, shard)) for shard in commits(store) if shard not in but}
    assert set(ends.values()) <= {1}, ends


def kill_workers(job: Job) -> set[ProcessId]:
    """Sends SIGKILL to every worker of the job, and returns when they are gone."""
    killed = workers(job.process.pid)
    assert killed
    for pid, _ in killed:
        os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: not killed & processes().keys())
    return killed


def kill_mid_shard(job: Job, store: Store) -> dict[str, int]:
    """Kills the workers at a moment at which a shard has a checkpoint but no commit. Returns the
    epochs of the last checkpoints of such shards, by shard.

    The workers are stopped while the store is read, so they are killed in exactly that state.
    """
    seen: dict[str, int] = {}

    def caught() -> bool:
        nonlocal seen
        if not unfinished(store):
            return False
        stopped = workers(job.process.pid)
        signalled(stopped, signal.SIGSTOP)
        seen = unfinished(store)
        signalled(stopped, signal.SIGKILL if seen else signal.SIGCONT)
        return bool(seen) and wait_until(lambda: not stopped & processes().keys())

    job.wait_for(caught, "a checkpoint of a shard without a commit")
    return seen


def signalled(which: set[ProcessId], number: signal.Signals) -> None:
    for pid, _ in which:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
