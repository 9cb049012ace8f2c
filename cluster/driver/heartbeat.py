"""Signs of life: by them drivers tell each other, and `jobs.status`, what they are doing.

They are advice only, since the commits alone say what is done. Two drivers on one sweep are always
safe. If they know of each other, they begin at opposite ends of the plan, and few shards run twice.
"""

import json
import socket
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace

from cluster.driver.events import AtWork, Running, WorkerInfo
from pcworker.errors import StoreError
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


class Heartbeat:
    """This driver's signs of life in the store."""

    def __init__(
        self, store: Store, sweep: str, say: Callable[[str], None] = lambda message: None
    ) -> None:
        """`say` is called with a message when the store cannot be written, and when it can be
        written again."""
        self._store, self._sweep, self._say = store, sweep, say
        self._in_trouble = False
        self._key = SweepKeys(sweep).driver(uuid.uuid4().hex[:12])
        self._signs = Signs(store, sweep, but=self._key)
        self._started, self._last = time.time(), -EVERY_S
        self._at_work = Running({}, ())

    def beat(self, at_work: Running | None = None) -> None:
        """Gives a sign of life, unless the last one is less than EVERY_S old.

        at_work  what is at work now; None: what was told last
        """
        self._at_work = at_work or self._at_work
        if time.monotonic() - self._last >= EVERY_S:
            if self._last < 0:
                self.others()  # A sign that has changed when this is asked again is alive.
            self._last = time.monotonic()
            self._write(ended=False)

    def end(self) -> None:
        """Gives a last sign of life, which says that this driver has ended."""
        self._at_work = Running({}, ())
        if not self._in_trouble:  # A user who interrupts the driver should not wait for a store.
            self._write(ended=True)

    def others(self) -> list[Driver]:
        """Returns the other drivers that seem alive and began before this one."""
        try:
            drivers = self._signs.look()
        except StoreError:
            return []
        earlier = (driver for driver in drivers if driver.started < self._started)
        return [driver for driver in earlier if driver.alive(time.time())]

    def _write(self, ended: bool) -> None:
        sign = {
            "hostname": socket.gethostname(),
            "time": time.time(),
            "ended": ended,
            "workers": [asdict(worker) for worker in self._at_work.workers],
            "running": {shard: asdict(at) for shard, at in self._at_work.shards.items()},
            "started": self._started,
        }
        try:
            self._store.put(self._key, json.dumps(sign).encode())
        except StoreError as error:  # Advice is not worth a sweep.
            if not self._in_trouble:
                self._say(f"{error}; waiting for the store: workers keep their results till then")
            self._in_trouble = True
            return
        if self._in_trouble:
            self._say(f"store {self._store.url} answers again")
        self._in_trouble = False


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
