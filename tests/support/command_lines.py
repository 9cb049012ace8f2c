"""How tests run the commands of jobs, and what a command must say that is refused."""

import importlib
import io
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import click

from jobs.options import main

ROOT = Path(__file__).resolve().parents[2]
ABLATION = "jobs.mnist_ablation"


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: object
    stdout: str
    stderr: str


def command_of(module: str) -> click.Command:
    """The command of a job."""
    package = (ROOT / Path(*module.split("."))).is_dir()
    made = importlib.import_module(f"{module}.__main__" if package else module).command
    assert isinstance(made, click.Command)
    return made


def called(*options: str, module: str = ABLATION) -> Ended:
    """Runs a command in this process, which spares a new one with all its imports.

    A command that starts workers or changes the process for good needs `started`.
    """
    out, err = io.StringIO(), io.StringIO()
    with patch.object(sys, "argv", [module, *options]), redirect_stdout(out), redirect_stderr(err):
        try:
            main(command_of(module))
        except SystemExit as end:
            return Ended(end.code, out.getvalue(), err.getvalue())


def started(*options: str, module: str = ABLATION) -> Ended:
    """Runs a command in a process of its own, as a user does."""
    done = subprocess.run(
        [sys.executable, "-m", module, *options],
        cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    return Ended(done.returncode, done.stdout, done.stderr)


def refusal(*options: str, module: str = ABLATION) -> str:
    """The one line on stderr with which a command is refused: all that it says."""
    return the_line(called(*options, module=module))


def the_line(ended: Ended) -> str:
    """Checks that a command was refused in one line, and returns the line."""
    assert ended.code == 2, ended
    assert ended.stdout == ""
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.count("\n") == 1, ended.stderr
    return ended.stderr


def files(folder: Path) -> list[Path]:
    """All files below a folder."""
    return [path for path in folder.rglob("*") if not path.is_dir()]
