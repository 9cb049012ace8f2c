"""Deleting a sweep: all of it that this project wrote, nothing else, and so that it can be
interrupted.

Commits go before the results that they name: what is left of a half-deleted sweep is never a
damaged one. The plan goes last: until then the name stays taken, and the same command goes on.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from cluster.heartbeat import Driver, read_drivers
from cluster.plan import read_plan
from cluster.reading import read_all
from cluster.status_look import first_command
from pcworker.errors import DamagedError, InputError
from pcworker.layout import SweepKeys
from pcworker.store import Store

_STAGES = tuple(
    re.compile(pattern)
    for pattern in (
        r"(tables|report)/[^/]+",
        r"failures/[^/]+/[^/]+\.json",
        r"shards/[^/]+/commit\.json",
        r"shards/[^/]+/attempts/[^/]+/[^/]+\.(parquet|json|npz)",
        r"drivers/[^/]+\.json",
        r"plan\.json",
    )
)
"""What a sweep's folder holds, as `pcworker.layout` has it, in the order in which it goes."""

Keys = tuple[str, ...]


@dataclass(frozen=True)
class Doomed:
    """What would be deleted of a sweep."""

    name: str
    root: str
    stages: tuple[Keys, ...]
    """Keys, in the order in which they go."""
    foreign: Keys
    """Keys in the sweep's folder that are none of its own, and stay."""
    alive: tuple[Driver, ...]
    """Drivers that seem to be at work on it."""
    described: str
    """What it is, in a line or two."""

    @property
    def count(self) -> int:
        """Objects."""
        return sum(map(len, self.stages))


def in_stages(
    root: str, keys: Sequence[str]
) -> tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]:
    """A sweep's own keys, in the order in which they go; and those that are none of its own."""
    own: tuple[list[str], ...] = tuple([] for _ in _STAGES)
    foreign: list[str] = []
    for key in keys:
        inner = key.removeprefix(f"{root}/")
        place = next((n for n, each in enumerate(_STAGES) if each.fullmatch(inner)), None)
        (foreign if place is None else own[place]).append(key)
    return tuple(map(tuple, own)), tuple(foreign)


def doomed(store: Store, name: str, now: float) -> Doomed:
    """What there is of the sweep `name`, or of the tables `A+B` that were made of several.

    Raises InputError if there is nothing.
    """
    parts = name.split("+")
    root = SweepKeys.joint(parts).root
    keys = store.list(f"{root}/")
    if not keys:
        raise InputError(f"there is no sweep {name} in the store {store.url}; check both names")
    stages, foreign = in_stages(root, keys)
    drivers = read_drivers(store, name) if len(parts) == 1 else []
    alive = tuple(driver for driver in drivers if driver.alive(now))
    described = _described(store, name, keys) if len(parts) == 1 else "tables of several sweeps"
    return Doomed(name, root, stages, foreign, alive, described)


def delete(store: Store, sweep: Doomed, report: Callable[[int], None]) -> None:
    """Deletes it; `report` is told how many objects are gone. May be interrupted at any time."""
    gone = 0
    for stage in sweep.stages:
        for _ in read_all(partial(_delete, store), stage):
            gone += 1
            report(gone)
    store.prune(f"{sweep.root}/")


def _delete(store: Store, key: str) -> None:
    store.delete(key)


def _described(store: Store, name: str, keys: Sequence[str]) -> str:
    commits = sum(key.endswith("/commit.json") for key in keys)
    try:
        plan = read_plan(store, name)
        command = first_command(store, name) if plan else None
    except DamagedError:
        return f"{commits} committed shard(s); its plan cannot be read"
    if plan is None:
        return f"{commits} committed shard(s), no plan: what is left of a deletion"
    text = f"{len(plan.trials)} trials, {commits} of {len(plan.shards)} shard(s) committed"
    return f"{text}\nsubmitted by: {command}" if command else text
