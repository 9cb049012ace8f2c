"""Helps with processes that a test starts or finds: their environment, their descendants, and
waiting for them."""

import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 240.0


def wait_until(
    condition: Callable[[], bool],
    process: "subprocess.Popen[str] | None" = None,
    every: float = 0.05,
) -> bool:
    """Waits until `condition` is true, for PATIENCE_S at most and not after `process` has ended.
    Returns whether it became true.

    every  the seconds between two looks
    """
    deadline = time.monotonic() + PATIENCE_S
    pause = threading.Event()
    while not (met := condition()) and time.monotonic() < deadline:
        if process is not None and process.poll() is not None:
            break
        pause.wait(every)
    return met


ProcessId = tuple[int, str]
"""A process's number and the time of its start. The number alone may be used again by another
process."""


def processes() -> dict[ProcessId, int]:
    """The number of the parent process, for every living process."""
    found = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            pid = int(entry.name)
            # The process's name, in brackets, may hold any character, even brackets.
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
    """The largest number of bytes that a process has had in memory so far; 0 if it has ended."""
    with suppress(OSError, IndexError):
        status = Path(f"/proc/{process[0]}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    return 0


def _command(process: ProcessId) -> str:
    with suppress(OSError):
        return Path(f"/proc/{process[0]}/cmdline").read_text()
    return ""
