"""Tests of `--local-debug`, with which a job trains in its own process for a debugger.

A small ablation on made-up digits stands for a job. This file is its command line, if it is run as
a script. `test_sweep_on_ray` tests that the real job gives the same tables as with Ray.
"""

import io
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import pytest
from dispatching import files
from made_up import made_up_digits
from rich.console import Console
from running import PATIENCE_S, ROOT

from cluster.run import run_sweep
from jobs.mnist_ablation.experiment import ABLATION, ablation_engine
from jobs.mnist_ablation.sweep import mnist_ablation
from jobs.options import console, main, run_options, split
from pcworker.trials.trial import Trial

SHARDS = 2
CALLED = "Trains a shard of 4 trials."
"""The line that the engine prints before its breakpoint and before it trains."""


class Debugged:
    """An engine into which a researcher has written a breakpoint.

    The environment variable ACT says what happens. "break" stops at the breakpoint. "hang" never
    ends the second shard.
    """

    def __init__(self, digits: Any, device: Any) -> None:
        self._engine = ablation_engine(digits, device)
        self._shards = 0

    def run(self, trials: Sequence[Trial], **rest: Any) -> Any:
        self._shards += 1
        print(CALLED, flush=True)
        if os.environ.get("ACT") == "break":
            breakpoint()
        if os.environ.get("ACT") == "hang" and self._shards == SHARDS:
            print("It hangs.", flush=True)
            threading.Event().wait()
        return self._engine.run(trials, **rest)


SMALL = replace(
    ABLATION,
    engine=Debugged,
    find_data=lambda directory, trials: made_up_digits(),
    figures=lambda tables: {},
)


def swept() -> Any:
    return mnist_ablation(
        networks=["784-16-10", "784-32-10"],
        seeds=[1],
        t=[None, 1],
        gamma=[1.0],
        sigma=[0.0],
        rules=["BP", "IL", "Z-IL", "Fa-Z-IL"],
        epochs=1,
    )


@click.command()
@run_options
def command(**given: Any) -> int:
    """Runs the small ablation as a job."""
    return run_sweep(SMALL, swept(), split(given), console)


# ---------------------------------------------------------------- at a terminal


@dataclass
class Terminal:
    """A process at a terminal of its own, and all that the terminal has shown."""

    process: "subprocess.Popen[bytes]"
    end: int
    shown: str = ""
    seen: int = 0
    """The number of characters up to the end of the last text that was waited for."""

    def until(self, text: str) -> None:
        """Waits until the terminal shows `text`, after the last text that was waited for."""
        while text not in self.shown[self.seen :]:
            more = self._read()
            assert more, f"{text!r} was never shown: {self.shown}"
            self.shown += more
        self.seen = self.shown.index(text, self.seen) + len(text)

    def type(self, line: str) -> None:
        os.write(self.end, f"{line}\n".encode())

    def ended(self) -> int:
        """Waits for the process to end. Returns its exit code."""
        while more := self._read():
            self.shown += more
        return self.process.wait(PATIENCE_S)

    def _read(self) -> str:
        try:
            return os.read(self.end, 4096).decode(errors="replace")
        except OSError:  # a terminal raises it when nobody writes to it any more
            return ""


@contextmanager
def job(store: Path, act: str = "") -> Iterator[Terminal]:
    """Starts the job at a terminal, in a process group of its own."""
    end, its_end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, __file__, "--store", str(store), "--sweep", "a", "--local-debug"],
        cwd=ROOT,
        env=os.environ | {"ACT": act, "PYTHONPATH": os.pathsep.join(sys.path), "COLUMNS": "200"},
        stdin=its_end,
        stdout=its_end,
        stderr=its_end,
        start_new_session=True,
    )
    os.close(its_end)
    alarm = threading.Timer(PATIENCE_S, process.kill)
    alarm.start()
    try:
        yield Terminal(process, end)
    finally:
        alarm.cancel()
        process.kill()
        process.wait()
        os.close(end)


def test_a_breakpoint_stops_in_a_trial_and_the_sweep_goes_on_from_there(tmp_path: Path) -> None:
    with job(tmp_path, "break") as terminal:
        for _ in range(SHARDS):
            terminal.until("(Pdb) ")
            terminal.type("p len(trials), trials[0].seed")
            terminal.until("(4, 1)")
            terminal.type("p 'ray' in sys.modules, threading.current_thread().name")
            terminal.until("(False, 'MainThread')")
            terminal.until("(Pdb) ")
            terminal.type("continue")
        assert terminal.ended() == 0, terminal.shown
    assert "test_local_debug.py" in terminal.shown
    assert "Running in this process, without Ray: one shard at a time." in terminal.shown
    assert "ETA" not in terminal.shown  # a bar would write over the debugger's lines
    assert files(tmp_path).count("commit.json") == SHARDS


def test_who_quits_the_debugger_quits_the_job_and_no_attempt_has_failed(tmp_path: Path) -> None:
    with job(tmp_path, "break") as terminal:
        terminal.until("(Pdb) ")
        terminal.type("quit")
        assert terminal.ended() == 130, terminal.shown
    assert "interrupted: what is committed is kept" in terminal.shown
    assert terminal.shown.count(CALLED) == 1
    assert not list(tmp_path.glob("sweeps/a/failures/**/*.json"))


def test_an_interrupted_job_ends_with_130_and_the_next_one_goes_on(tmp_path: Path) -> None:
    with job(tmp_path, "hang") as terminal:
        terminal.until("It hangs.")
        os.killpg(terminal.process.pid, signal.SIGINT)  # Ctrl-C does the same
        assert terminal.ended() == 130, terminal.shown
    assert "interrupted: what is committed is kept" in terminal.shown
    assert "Traceback" not in terminal.shown
    assert files(tmp_path).count("commit.json") == 1
    with job(tmp_path) as terminal:
        assert terminal.ended() == 0, terminal.shown
    assert "8 trials in 2 shards, 1 committed already" in terminal.shown
    assert terminal.shown.count(CALLED) == 1


# ---------------------------------------------------------------- in this process


def run(store: Path, **changes: Any) -> str:
    """Runs the job in this process, and returns the text that it printed."""
    text = io.StringIO()
    with click.Context(command) as context:
        command.parse_args(context, ["--store", str(store), "--sweep", "a", "--local-debug"])
    options = split(dict(context.params))
    wide = Console(file=text, width=1000, markup=False, highlight=False)
    assert run_sweep(replace(SMALL, **changes), swept(), options, wide) == 0, text.getvalue()
    return text.getvalue()


def test_variables_that_come_too_late_are_named_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HERE_ALREADY", "1")
    text = run(tmp_path, environment={"HERE_ALREADY": "1", "TOO_LATE": "2"})
    [line] = [line for line in text.splitlines() if "TOO_LATE" in line]
    assert line == (
        "A worker's process would start with TOO_LATE=2, and this one did not: measured times, "
        "and torch's own sums, may differ."
    )


def test_a_cluster_in_the_environment_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    text = run(tmp_path)
    assert "Preflight: 6 checks passed." in text
    assert "A worker's process would start with" not in text


if __name__ == "__main__":
    main(command)
