"""Runs jobs with a user's mistake on the command line, and checks how they refuse it."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from jobs.options import main

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Ended:
    code: object
    stdout: str
    stderr: str


def job(*options: str, module: str = "jobs.mnist_ablation") -> Ended:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, "-m", module, *options]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def refused(*options: str, module: str = "jobs.mnist_ablation") -> str:
    """Runs a job that must refuse its options, and returns the one line that it prints."""
    return the_line(job(*options, module=module))


def the_line(ended: Ended) -> str:
    """Checks that a command was refused with one line on stderr, and returns this line."""
    assert ended.code == 2, ended
    assert ended.stdout == ""
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.count("\n") == 1, ended.stderr
    return ended.stderr


def assert_refused(command: click.Command, capsys: pytest.CaptureFixture[str], *parts: str) -> None:
    """Runs a command in this process, with the arguments in `sys.argv`. Fails unless the command is
    refused with one line that holds all `parts`."""
    with pytest.raises(SystemExit) as end:
        main(command)
    line = the_line(Ended(end.value.code, *capsys.readouterr()))
    assert all(part in line for part in parts), line


def files(store: Path) -> list[Path]:
    return [path for path in store.rglob("*") if not path.is_dir()]
