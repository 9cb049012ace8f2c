"""Reads the status of a sweep from its store, as often as asked. It reads each object that never
changes only once."""

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Generic, TypeVar

from cluster.driver.record.signs import WATCH_S, Signs
from cluster.results.reading import (
    list_failures,
    read_all,
    read_failure,
    read_shard_commit,
    with_commit,
)
from cluster.status.status import DoneShard, Status, StoredSweep, status_of
from cluster.sweeps.plan import Plan
from pcworker.errors import DamagedError
from pcworker.store.store import Store
from pcworker.store.tables import FailureRow

_T = TypeVar("_T")


class Lookout:
    """Watches the store of one sweep."""

    def __init__(self, store: Store, plan: Plan) -> None:
        self._store, self._plan, self._keys = store, plan, plan.keys
        self._signs = Signs(store, plan.name)
        shards = {shard.shard_id: shard for shard in plan.shards}

        def done(shard_id: str) -> DoneShard | None:
            commit = read_shard_commit(store, plan, shards[shard_id])
            return None if commit is None else DoneShard.of(commit)

        self._commits = _Kept[DoneShard](done)
        self._failures = _Kept[FailureRow](partial(read_failure, store))

    def status(self) -> Status:
        """Reads how the sweep stands now.

        Drivers are read before commits. If a driver ends in between, all of its commits are seen,
        and none of its shards seems to be missing.
        """
        drivers, now = self._signs.look(), time.time()
        self._failures.refresh(list_failures(self._store, self._plan))
        listed = self._store.list(self._keys.shards)
        self._commits.refresh(shard.shard_id for shard in with_commit(self._plan, listed))
        found = StoredSweep(
            commits=self._commits.values,
            damaged_shards=frozenset(self._commits.damaged),
            damaged=(*self._commits.damaged.values(), *self._failures.damaged.values()),
            failures=list(self._failures.values.values()),
            drivers=drivers,
        )
        return status_of(self._plan, found, now)

    def sure(self, pause: Callable[[], object], say: Callable[[str], object]) -> Status:
        """Reads how the sweep stands, and says that no driver is alive only if none has given a
        sign of life while this looked on.

        An old sign may be a living driver's whose clock differs from ours. Whether it changes does
        not depend on clocks.

        pause  waits for one second
        say    is called with a message before the first pause
        """
        status = self.status()
        for second in range(WATCH_S):
            if status.done or status.drivers.alive or not status.drivers.silent:
                break
            if not second:
                say(f"The last sign of life is old: looking for {WATCH_S} s whether one comes.")
            pause()
            status = self.status()
        return status


class _Kept(Generic[_T]):
    """Objects that never change once they exist, by name."""

    def __init__(self, read: Callable[[str], _T | None]) -> None:
        self._read = read
        self.values: dict[str, _T] = {}
        self.damaged: dict[str, str] = {}
        """Why an object cannot be read, by its name. Such an object is tried again every time."""

    def refresh(self, there: Iterable[str]) -> None:
        """Reads the objects named in `there` that are new, and forgets those that are gone."""
        names = list(there)
        new = [name for name in names if name not in self.values]
        read = dict(zip(new, read_all(self._read, new), strict=True))
        self.damaged = {n: str(e) for n, e in read.items() if isinstance(e, DamagedError)}
        self.values = {name: self.values[name] for name in names if name in self.values} | {
            name: value
            for name, value in read.items()
            if value is not None and not isinstance(value, DamagedError)
        }
