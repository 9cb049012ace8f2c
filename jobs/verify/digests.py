"""The table of the defined digests, and which checks have them."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.verify.check import Check
from jobs.verify.functions import every_input, functions
from jobs.verify.products import products
from jobs.verify.randomness import streams
from jobs.verify.trials import trainings
from pcworker.errors import InputError
from pcworker.kernels.fixed.library import Build, built

DIGESTS = Path(__file__).with_name("digests.json")


@dataclass(frozen=True)
class ComparedCheck:
    """The digest of a check here, and the defined one."""

    title: str
    expected: str
    found: str

    @property
    def same(self) -> bool:
        return self.expected == self.found


def checks(*, every: bool) -> list[Check]:
    """The checks of a CPU. `every` says whether all inputs of float32 are among them."""
    return [*functions(), *products(), *streams(), *trainings(), *(every_input() if every else [])]


def chosen_by(only: str, known: Sequence[Check]) -> list[Check]:
    """The checks whose title contains `only`. Raises InputError if there are none."""
    chosen = [check for check in known if only in check.title]
    if not chosen:
        titles = "; ".join(check.title for check in known)
        raise InputError(f"no check has {only!r} in its name; there are: {titles}")
    return chosen


def build_for(check: Check) -> Build:
    """This machine's build for the dtype of a check."""
    return built("float32" if check.dtype == "float32" else "float64")


def found_digests(asked: Iterable[Check]) -> Iterator[tuple[str, str]]:
    """Yields the title of each check and its digest on this machine."""
    for check in asked:
        yield check.title, check.digest(build_for(check))


def outcomes(asked: Iterable[Check], table: Mapping[str, str]) -> Iterator[ComparedCheck]:
    """Compares the checks' digests with those of a table."""
    for title, found in found_digests(asked):
        yield ComparedCheck(title, table.get(title, "none in the table"), found)


def defined() -> dict[str, str]:
    """The defined digests, by the title of a check."""
    table: dict[str, str] = json.loads(DIGESTS.read_text())
    return table


def as_table(found: Iterable[tuple[str, str]]) -> str:
    """The text of a new table."""
    return json.dumps(dict(found), indent=2)
