"""Reads signs of life: by them drivers tell each other, and `jobs.status`, what they are doing.

They are advice only, since the commits alone say what is done. Two drivers on one sweep are always
safe. If they know of each other, they begin at opposite ends of the plan, and few shards run twice.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from cluster.driver.events import AtWork, WorkerInfo
from pcworker.plain import from_json, parsed
from pcworker.store.keys import SweepKeys
from pcworker.store.store import Store

EVERY_S = 10.0
"""The seconds between two signs of life."""
ALIVE_S = 3 * EVERY_S
"""A driver whose last sign of life is older than this, in seconds, is taken for gone."""
WATCH_S = int(EVERY_S) + 2
"""Within this many seconds a living driver gives a sign of life."""
_YEAR_3000 = 32_503_680_000.0


@dataclass(frozen=True)
class Driver:
    """The last sign of life of a driver."""

    hostname: str
    time: float
    """When it was given: seconds since 1970 in UTC, by the driver's own clock."""
    ended: bool
    """True if the driver has ended."""
    workers: tuple[WorkerInfo, ...]
    running: Mapping[str, AtWork]
    """By shard id."""
    started: float
    """When the driver began, by the same clock as `time`."""

    def alive(self, now: float) -> bool:
        """True if the driver seems to be at work at the time `now`."""
        return not self.ended and abs(now - self.time) < ALIVE_S


def read_drivers(store: Store, sweep: str, but: str | None = None) -> list[Driver]:
    """Returns the last sign of life of each driver of a sweep. One that cannot be read is left out.

    but  the key of a driver to leave out
    """
    read = (driver_of(data) for key, data in read_signs(store, sweep).items() if key != but)
    return [driver for driver in read if driver is not None]


def read_signs(store: Store, sweep: str) -> dict[str, bytes]:
    """Returns the last sign of life of each driver of a sweep as its bytes, by key."""
    signs = {key: store.get(key) for key in store.list(SweepKeys(sweep).drivers)}
    return {key: data for key, data in signs.items() if data is not None}


class Signs:
    """The signs of life of a sweep's drivers, read again and again.

    A driver's clock may differ from ours, and a local store has no clock of its own. So a sign that
    is new, or has changed, since the first look is as old as that change, by our clock. Only of a
    sign that has stood since the first look is the driver's own time all that is known.
    """

    def __init__(self, store: Store, sweep: str, but: str | None = None) -> None:
        """`but` is the key of a driver to leave out."""
        self._store, self._sweep, self._but = store, sweep, but
        self._told: dict[tuple[str, float], float] | None = None
        """The time in each driver's last sign, by its host and its start. None before the first
        look."""
        self._changed: dict[tuple[str, float], float] = {}
        """When a driver's sign was seen to have changed, by our clock."""

    def look(self) -> list[Driver]:
        """Reads the signs of life. The time of one that has changed is when that was seen."""
        found = {
            (driver.hostname, driver.started): driver
            for driver in read_drivers(self._store, self._sweep, self._but)
        }
        told = {who: driver.time for who, driver in found.items()}
        before = told if self._told is None else self._told
        new = {who for who in told if told[who] != before.get(who)}
        self._told = told
        self._changed |= dict.fromkeys(new, time.time())
        return [replace(d, time=self._changed.get(who, d.time)) for who, d in found.items()]


def driver_of(data: bytes) -> Driver | None:
    """The driver whose sign of life this is. None if it cannot be read, or is no sign that a driver
    can have given.

    Fields that are not known are ignored, because the driver may be of another version.
    """
    try:
        driver = from_json(Driver, parsed(data))
    except ValueError:
        return None
    times = all(0 <= each < _YEAR_3000 for each in (driver.time, driver.started))
    shares = all(0 <= at.share <= 1 for at in driver.running.values())
    return driver if times and shares else None
