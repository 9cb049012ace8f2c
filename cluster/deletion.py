"""Deleting a sweep: all of it that this project wrote, nothing else, and so that it can be
interrupted.

Commits go before the results that they name: what is left of a half-deleted sweep is never a
damaged one. The plan goes last: until then the name stays taken, and the same command goes on.
"""

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from cluster.heartbeat import EVERY_S, Driver, read_drivers
from cluster.plan import read_plan
from cluster.reading import read_all
from cluster.status_look import first_command
from pcworker.commit import TABLES
from pcworker.errors import DamagedError, InputError
from pcworker.layout import SweepKeys
from pcworker.sealed import unseal
from pcworker.store import Store

_OF_SHARDS = "|".join(sorted({name for tables in TABLES.values() for name in tables}))
_STAGES = tuple(
    re.compile(pattern)
    for pattern in (
        rf"tables/({_OF_SHARDS}|divergence|failures)\.parquet",
        r"report/(figure3|table4)\.(png|svg)",
        r"failures/[^/]+/[^/]+\.json",
        r"shards/[^/]+/commit\.json",
        rf"shards/[^/]+/attempts/[^/]+/(({_OF_SHARDS})\.parquet|attempt\.json|checkpoint-\d+\.npz)",
        r"drivers/[0-9a-f]+\.json",
        r"plan\.json",
    )
)
"""What a sweep's folder holds, as `pcworker.layout` has it, in the order in which it goes."""
WATCH_S = int(EVERY_S) + 2
"""A driver that lives gives a sign in this time."""

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


def doomed(store: Store, name: str) -> Doomed:
    """What there is of the sweep `name`, or of the tables `A+B` that were made of several.

    Raises InputError if there is nothing, or if it is another sweep, as behind a link.
    """
    parts = name.split("+")
    root = SweepKeys.joint(parts).root
    keys = store.list(f"{root}/")
    if not keys:
        raise InputError(f"there is no sweep {name} in the store {store.url}; check both names")
    stages, foreign = in_stages(root, keys)
    described = _described(store, name, keys) if len(parts) == 1 else "tables of several sweeps"
    return Doomed(name, root, stages, foreign, described)


def at_work(store: Store, sweep: Doomed, pause: Callable[[], None]) -> list[Driver]:
    """The drivers that give a sign of life while it is watched, whatever their clocks say.

    pause  waits a second
    """
    if "+" in sweep.name:
        return []
    before = read_drivers(store, sweep.name)
    if all(driver.ended for driver in before):
        return []
    for _ in range(WATCH_S):
        pause()
        now = read_drivers(store, sweep.name)
        if fresh := [driver for driver in now if not driver.ended and driver not in before]:
            return fresh
    return []


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
    _require_own(store, name)
    try:
        plan = read_plan(store, name)
        command = first_command(store, name) if plan else None
    except DamagedError:
        return f"{commits} committed shard(s); its plan cannot be read"
    if plan is None:
        return f"{commits} committed shard(s), no plan: what is left of a deletion"
    text = f"{len(plan.trials)} trials, {commits} of {len(plan.shards)} shard(s) committed"
    return f"{text}\nsubmitted by: {command}" if command else text


def _require_own(store: Store, name: str) -> None:
    """Another sweep's folder may be found under this name: by a link, or a copy."""
    with suppress(ValueError):  # a damaged plan says nothing
        found = unseal(store.get(SweepKeys(name).plan) or b"").get("sweep")
        if found != name:
            raise InputError(
                f"{store.describe(SweepKeys(name).plan)} is the plan of the sweep {found}, not of "
                f"{name}: a link, or a copy, which this command does not delete"
            )
