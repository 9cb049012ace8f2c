"""Reads the lines that the preflight prints, one for each check."""

import subprocess

from command_lines import Ended

SMALL = ("--networks", "784-16-10", "--t", "l", "--gamma", "1", "--sigma", "0")
CHECKS = [
    *("store reachable", "store writable", "conditional writes", "store's space", "data"),
    *("clocks", "nodes", "versions", "devices", "exactness", "Ray's disk", "token", "dashboard"),
]


def bad(lines: dict[str, str]) -> dict[str, str]:
    return {check: line for check, line in lines.items() if not line.startswith("ok ")}


def lines_of(done: "subprocess.CompletedProcess[str] | Ended") -> dict[str, str]:
    """The lines of a command's output, by check."""
    found = {}
    for line in done.stdout.splitlines():
        for check in CHECKS:
            if line[6:].startswith(check):
                found[check] = line
    return found
