"""The verdict on one check before a sweep: a level, what was found, and what to do about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

Level = Literal["ok", "warn", "FAIL", "skip"]
"""ok: the check passed. warn: the sweep can run, but the user should know this. FAIL: the sweep
should not start. skip: this could not be checked, or does not need to be."""

EACH_WORKER = "each worker looks, before its first shard"
RUN_ANYWAY = "--no-preflight runs anyway"


class Judged(NamedTuple):
    """The outcome of a check, without the name of the check."""

    status: Level
    found: str
    """What was found, in words."""
    remedy: str = ""
    """What the user can do about it; "" if there is nothing to do."""


@dataclass(frozen=True)
class Verdict:
    """The verdict on one check. As a string it is one line."""

    check: str
    status: Level
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.status:<5} {self.check:<19} {self.found}{remedy}"


def failed(made: Sequence[Verdict]) -> bool:
    """True if a run should not start."""
    return any(verdict.status == "FAIL" for verdict in made)


def summary(made: Sequence[Verdict]) -> str:
    """The line that a job prints if no check failed or warned."""
    passed = sum(verdict.status == "ok" for verdict in made)
    left = [verdict.check for verdict in made if verdict.found == EACH_WORKER]
    return f"Preflight: {passed} checks passed" + (
        f"; each worker looks for itself: {', '.join(left)}." if left else "."
    )
