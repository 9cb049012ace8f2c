"""Processes that a test starts, or finds: their environment, their family, and waiting for them."""

import os
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 240.0


def environment() -> dict[str, str]:
    """This process's, without a cluster that would be used in the place of a Ray of our own."""
    return {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}


def wait_until(
    condition: Callable[[], bool], process: "subprocess.Popen[str] | None" = None
) -> bool:
    """Whether `condition` came true before the deadline, and before `process` ended."""
    deadline = time.monotonic() + PATIENCE_S
    pause = threading.Event()
    while not (met := condition()) and time.monotonic() < deadline:
        if process is not None and process.poll() is not None:
            break
        pause.wait(0.05)
    return met


ProcessId = tuple[int, str]
"""A number may be used again; with the time of its start it is one process."""


def processes() -> dict[ProcessId, int]:
    """The parent of every process that lives."""
    found = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            pid = int(entry.name)
            # the name, in brackets, may hold anything
            state, parent, *rest = (entry / "stat").read_text().rpartition(")")[2].split()
            if state not in ("Z", "X"):
                found[pid, rest[17]] = int(parent)
    return found


def descendants(ancestor: int) -> set[ProcessId]:
    parents = processes()
    found: set[ProcessId] = set()
    family = {ancestor}
    while fresh := {one for one, parent in parents.items() if parent in family} - found:
        found |= fresh
        family |= {pid for pid, _ in fresh}
    return found


def workers(driver: int) -> set[ProcessId]:
    """The processes of a driver's workers."""
    return {one for one in descendants(driver) if _command(one).startswith("ray::Worker")}


def peak_memory(process: ProcessId) -> int:
    """The most bytes that a process has had in memory so far; 0 if it has ended."""
    with suppress(OSError, IndexError):
        status = Path(f"/proc/{process[0]}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    return 0


def _command(process: ProcessId) -> str:
    with suppress(OSError):
        return Path(f"/proc/{process[0]}/cmdline").read_text()
    return ""
