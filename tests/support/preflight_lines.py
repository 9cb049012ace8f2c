"""Reads the lines that the preflight prints, one for each check."""

import subprocess

from command_lines import Ended

SMALL = ("--networks", "784-16-10", "--t", "l", "--gamma", "1", "--sigma", "0")
CHECKS = [
    *("store reachable", "store writable", "conditional writes", "store's space", "data"),
    *("clocks", "nodes", "versions", "devices", "exactness", "Ray's disk", "token", "dashboard"),
]


def bad(lines: dict[str, str]) -> dict[str, str]:
    """The lines of the checks that did not end well, by check.

    That the disk of the machine on which the tests run is nearly full is no test's business.
    """
    found = {check: line for check, line in lines.items() if not line.startswith("ok ")}
    if found.get("Ray's disk", "").startswith("warn "):
        del found["Ray's disk"]
    return found


def says_well(printed: str, summary: str) -> bool:
    """True if a job printed this summary, or warned of nothing but a nearly full disk."""
    lines = printed.splitlines()
    found = [line for line in lines if line.startswith(("warn ", "FAIL "))]
    if not found:
        return summary in lines
    return len(found) == 1 and found[0].startswith("warn  Ray's disk")


def lines_of(done: "subprocess.CompletedProcess[str] | Ended") -> dict[str, str]:
    """The lines of a command's output, by check."""
    found = {}
    for line in done.stdout.splitlines():
        for check in CHECKS:
            if line[6:].startswith(check):
                found[check] = line
    return found
