"""Tests of what all commands have: help, plans that start nothing, and few imports."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from builders import ablation, commit_all, planned
from command_lines import ABLATION, ROOT, called, files

from jobs.mnist_ablation.speed import calibration
from pcworker.store.local import LocalStore

WORDS = {
    ABLATION: ("Figure 3", "What to train:", "--seeds", "Where to run:", "How much to spend:"),
    "jobs.imagenet_timing": ("Table 4", "--networks", "vgg16", "--with-loading", "--plan"),
    "jobs.detection_rate": ("Table 3", "--horizons", "l_max-1", "--tolerances", "--plan"),
    "jobs.any_network": ("any network", "--networks", "transformer-3", "--ablation", "--plan"),
    "jobs.collect": ("--store", "--partial"),
    "jobs.report": ("--store", "--partial", "--output", "--open"),
    "jobs.status": ("--store", "--watch"),
    "jobs.compare": ("--other-store", "--page", "exit code"),
    "jobs.figure": ("--panel", "--width", "--format", "no date"),
    "jobs.export": ("--to", "--licence", "RO-Crate"),
    "jobs.restore": ("FROM", "--store", "checked before anything is written"),
    "jobs.delete": ("--store", "--yes"),
    "jobs.preflight": ("--store", "--experiment"),
    "jobs.submit": ("--",),
    "jobs.verify": ("--all", "--only", "--print-digests"),
    "jobs.profile": ("--networks", "--rounds"),
    "jobs.benchmark": ("--network", "--no-peers"),
}


@pytest.mark.parametrize("module", WORDS)
def test_every_job_has_help(module: str) -> None:
    helped = called("--help", module=module)
    assert (helped.code, helped.stderr) == (0, "")
    for word in ("Usage:", *WORDS[module]):
        assert word in helped.stdout, word


def test_a_plan_says_what_would_be_run_and_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "WORTH_MEASURING_S", math.inf)  # the table's minutes will do
    networks = ("--networks", "784-32-10,784-32-32-10")
    done = called("--store", str(tmp_path), *networks, "--seeds", "1,2", "--plan")
    assert (done.code, done.stderr) == (0, "")
    for word in ("network", "rule", "trials", "updates", "minutes"):
        assert word in done.stdout.splitlines()[1]
    assert "longest shards" in done.stdout or " shard " in done.stdout
    assert "208 trials in" in done.stdout  # 52 per network and seed
    assert f"{208 * 3000:,} weight updates to make" in done.stdout
    assert "Nothing was started." in done.stdout
    assert "Running on" not in done.stdout
    assert files(tmp_path) == []


LIGHT = """
import sys
from importlib import import_module
heavy = {"torch", "ray", "torchvision", "PIL"}
for module, *arguments in CALLS:
    code = import_module(module).command(arguments, standalone_mode=False)
    assert code == 0, f"{module} ended with {code}"
    # Matplotlib, which the collector draws with, imports PIL
    found = heavy & set(sys.modules) - ({"PIL"} if "matplotlib" in sys.modules else set())
    assert not found, f"{module} imports {found}"
"""


def test_planning_looking_collecting_and_deleting_import_neither_torch_nor_ray(
    tmp_path: Path,
) -> None:
    store = LocalStore(tmp_path)
    planned(store, ablation(), "a")
    commit_all(store, planned(store, ablation(), "b"))
    at = ("--store", str(tmp_path))
    calls = [
        # For GPUs this machine's speed is not measured, which takes seconds.
        *(
            (f"{job}.__main__", *at, "--plan", *sums, "--gpus-per-worker", "1")
            for job in list(WORDS)[:4]
            for sums in [() if "timing" in job or "network" in job else ("--sums", "library")]
        ),
        ("jobs.status", *at, "--sweep", "a"),
        ("jobs.collect", *at, "--sweep", "a", "--partial"),
        ("jobs.compare", "b", "b", *at),
        ("jobs.figure", *at, "--sweep", "b", "--output", str(tmp_path / "figures")),
        ("jobs.export", *at, "--sweep", "a", "--to", str(tmp_path / "archive")),
        ("jobs.restore", str(tmp_path / "archive"), *at),
        ("jobs.delete", *at, "--sweep", "a", "--yes"),
    ]
    code = LIGHT.replace("CALLS", repr(calls))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a line of bash in which $PYTHON is this Python."""
    return subprocess.run(
        ["bash", "-c", line], env=os.environ | {"PYTHON": sys.executable} | environment, cwd=ROOT,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240,
    )  # fmt: skip


@pytest.mark.parametrize(
    "command", ["status --sweep a", "query --sweep a 'SELECT 1'", "query --schema trials"]
)
def test_a_full_or_closed_standard_output_is_no_traceback(tmp_path: Path, command: str) -> None:
    store = LocalStore(tmp_path)
    commit_all(store, planned(store, ablation(), "a"))
    line = f"$PYTHON -m jobs.{command} --store {tmp_path}"
    full = shell(f"{line} > /dev/full")
    assert (full.returncode, full.stderr) == (
        2,
        "error: the output cannot be written: No space left on device; send it to a place with "
        "room\n",
    )
    closed = shell(f"{line} >&- <&-")
    assert (closed.returncode, closed.stderr) == (0, "")


def test_a_terminal_without_unicode_is_shown_the_status(tmp_path: Path) -> None:
    planned(LocalStore(tmp_path), ablation(), "a")
    line = f"$PYTHON -m jobs.status --store {tmp_path} --sweep a"
    done = shell(line, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Progress    {'-' * 30} 0%" in done.stdout
