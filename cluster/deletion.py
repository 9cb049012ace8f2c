"""Deletes a sweep: everything that this project wrote for it, and nothing else.

The deletion may be interrupted at any time. Commits are deleted before the results that they name,
so a half-deleted sweep never looks damaged. The plan is deleted last: until then the sweep's name
stays taken, and the same command continues the deletion.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from cluster.driver.record.signs import WATCH_S, Driver, driver_of, read_signs
from cluster.experiment import Experiment, Experiments
from cluster.report.page.parts import PAGE
from cluster.results.compaction.entries import COMMITS
from cluster.results.reading import read_all
from cluster.sweeps.stored import first_command, read_outline, unknown_sweep
from pcworker.errors import DamagedError, InputError
from pcworker.store.keys import KeyKind, SweepKeys
from pcworker.store.sealed import unseal
from pcworker.store.store import Store
from pcworker.text import counted

_ORDER: tuple[KeyKind, ...] = (
    "table", "part", "report", "failure", "compaction", "compacted", "commit", "data", "attempt",
    "checkpoint", "driver", "columns", "plan",
)  # fmt: skip
"""The order in which a sweep's objects are deleted."""
_OF_SEVERAL: tuple[KeyKind, ...] = ("table", "part", "report")
"""The same for the tables of several sweeps together: nothing else is written for them."""

Keys = tuple[str, ...]


@dataclass(frozen=True)
class Doomed:
    """A sweep that is to be deleted."""

    name: str
    folder: str
    """The prefix of all keys of the sweep."""
    stages: tuple[Keys, ...]
    """The keys to delete, in groups, in the order of deletion."""
    foreign: Keys
    """The keys in the sweep's folder that this project did not write. They stay."""
    described: str
    """A description of the sweep in one or two lines."""

    @property
    def count(self) -> int:
        """The number of objects to delete."""
        return sum(map(len, self.stages))


def in_stages(
    sweep: SweepKeys,
    keys: Sequence[str],
    experiments: Iterable[Experiment],
    kinds: Sequence[KeyKind] = _ORDER,
) -> tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]:
    """Splits the keys in a sweep's folder into the sweep's own, in the order of deletion, and those
    that this project did not write.

    experiments  the experiments that may have written the sweep
    kinds        the kinds of its own keys, in the order of deletion
    """
    known = list(experiments)
    written = {name for each in known for name in each.tables.row_types}
    tables = {*written, "failures", *(name for each in known for name in each.derived)}
    names = {
        "data": written,
        "compacted": {*written, COMMITS},
        "table": tables,
        "part": tables,
        "report": {PAGE, *(file for each in known for file in each.figure_files)},
    }
    own: dict[KeyKind, list[str]] = {kind: [] for kind in kinds}
    foreign: list[str] = []
    for key in keys:
        of = sweep.parse(key)
        if (
            of is None
            or of.kind not in own
            or (of.kind in names and (of.table or of.file) not in names[of.kind])
        ):
            foreign.append(key)
        else:
            own[of.kind].append(key)
    return tuple(map(tuple, own.values())), tuple(foreign)


def doomed(store: Store, name: str, experiments: Experiments) -> Doomed:
    """Finds all objects of the sweep `name`, or of the tables `A+B` that were made from several
    sweeps together.

    Raises InputError if there is nothing, if the folder is or holds a link, which may lead into
    another sweep, or if it is a copy of another sweep's folder.
    """
    parts = name.split("+")
    sweep = SweepKeys(*parts)
    store.require_no_links(sweep.folder)
    keys = store.list(sweep.folder)
    if not keys:
        raise unknown_sweep(store, name)
    several = len(parts) > 1
    kinds = _OF_SEVERAL if several else _ORDER
    stages, foreign = in_stages(sweep, keys, experiments.values(), kinds)
    described = "tables of several sweeps" if several else _described(store, name, keys)
    return Doomed(name, sweep.folder, stages, foreign, described)


def at_work(store: Store, sweep: Doomed, pause: Callable[[], None]) -> dict[str, Driver | None]:
    """Watches the sweep for up to WATCH_S seconds. Returns the drivers that seem to be at work on
    it, by the keys of their signs of life.

    A driver is at work if its sign changes meanwhile. Clocks are not compared, because those of two
    machines may differ. A sign that cannot be read counts too, with None as its driver: it may be
    of a driver of another version.

    pause  waits for one second
    """
    if "+" in sweep.name:
        return {}
    before = read_signs(store, sweep.name)
    living = _not_ended(before)
    if not living or None in living.values():
        return {key: driver for key, driver in living.items() if driver is None}
    for _ in range(WATCH_S):
        pause()
        changed = read_signs(store, sweep.name).items() - before.items()
        if living := _not_ended(dict(changed)):
            return living
    return {}


def _not_ended(signs: Mapping[str, bytes]) -> dict[str, Driver | None]:
    """The drivers whose signs of life do not say that they have ended, by key. None if the sign
    cannot be read."""
    drivers = {key: driver_of(data) for key, data in signs.items()}
    return {key: driver for key, driver in drivers.items() if driver is None or not driver.ended}


def delete(store: Store, sweep: Doomed, report: Callable[[int], None]) -> None:
    """Deletes the sweep. It may be interrupted at any time.

    report  is called after each object with the number of objects deleted so far
    """
    gone = 0
    for stage in sweep.stages:
        for _ in read_all(partial(_delete, store), stage):
            gone += 1
            report(gone)
    store.prune(sweep.folder)


def _delete(store: Store, key: str) -> None:
    store.delete(key)


def _described(store: Store, name: str, keys: Sequence[str]) -> str:
    parsed = map(SweepKeys(name).parse, keys)
    commits = sum(of is not None and of.kind == "commit" for of in parsed)
    _require_own(store, name)
    try:
        plan = read_outline(store, name)
        command = first_command(store, name) if plan else None
    except DamagedError:
        return f"{counted(commits, 'committed shard')}; its plan cannot be read"
    if plan is None:
        return f"{counted(commits, 'committed shard')}, no plan: what is left of a deletion"
    trials, shards = counted(plan.trial_count, "trial"), counted(plan.shard_count, "shard")
    text = f"{trials}, {commits:,} of {shards} committed"
    return f"{text}\nsubmitted by: {command}" if command else text


def _require_own(store: Store, name: str) -> None:
    """Raises InputError if the folder holds another sweep, as it does if it is a copy."""
    with suppress(ValueError):  # a damaged plan does not say whose it is
        found = unseal(store.get(SweepKeys(name).plan) or b"").get("sweep")
        if found != name:
            raise InputError(
                f"{store.describe(SweepKeys(name).plan)} is the plan of the sweep {found}, not of "
                f"{name}: a copy, which this command does not delete"
            )
