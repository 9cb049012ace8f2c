"""Deleting a sweep: all of it that this project wrote, nothing else, and so that it can be
interrupted.

Commits go before the results that they name: what is left of a half-deleted sweep is never a
damaged one. The plan goes last: until then the name stays taken, and the same command goes on.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from cluster.driver.heartbeat import EVERY_S, Driver, read_drivers
from cluster.experiment import Experiment, Experiments
from cluster.results.reading import read_all
from cluster.sweeps.plan import first_command, read_plan
from pcworker.errors import DamagedError, InputError
from pcworker.store.keys import KeyKind, SweepKeys
from pcworker.store.sealed import unseal
from pcworker.store.store import Store

_ORDER: tuple[KeyKind, ...] = (
    "table", "report", "failure", "commit", "data", "attempt", "checkpoint", "driver", "plan"
)  # fmt: skip
"""The order in which a sweep's objects go."""
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
    sweep: SweepKeys, keys: Sequence[str], experiments: Iterable[Experiment]
) -> tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]:
    """A sweep's own keys, in the order in which they go; and those that are none of its own.

    experiments  those that may have written it
    """
    known = list(experiments)
    written = {name for each in known for name in each.tables.schemas}
    names = {
        "data": written,
        "table": {*written, "failures", *(name for each in known for name in each.derived)},
        "report": {file for each in known for file in each.figure_files},
    }
    own: dict[KeyKind, list[str]] = {kind: [] for kind in _ORDER}
    foreign: list[str] = []
    for key in keys:
        of = sweep.parse(key)
        if of is None or (of.kind in names and (of.table or of.file) not in names[of.kind]):
            foreign.append(key)
        else:
            own[of.kind].append(key)
    return tuple(map(tuple, own.values())), tuple(foreign)


def doomed(store: Store, name: str, experiments: Experiments) -> Doomed:
    """What there is of the sweep `name`, or of the tables `A+B` that were made of several.

    Raises InputError if there is nothing, or if it is another sweep, as behind a link.
    """
    parts = name.split("+")
    sweep = SweepKeys.joint(parts)
    keys = store.list(f"{sweep.root}/")
    if not keys:
        raise InputError(f"there is no sweep {name} in the store {store.url}; check both names")
    stages, foreign = in_stages(sweep, keys, experiments.values())
    several = "tables of several sweeps"
    described = _described(store, name, keys, experiments) if len(parts) == 1 else several
    return Doomed(name, sweep.root, stages, foreign, described)


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


def _described(store: Store, name: str, keys: Sequence[str], experiments: Experiments) -> str:
    commits = sum(key.endswith("/commit.json") for key in keys)
    _require_own(store, name)
    try:
        plan = read_plan(store, name, experiments)
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
