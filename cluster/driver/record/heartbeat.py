"""Gives this driver's signs of life, and looks for those of other drivers."""

import json
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict

from cluster.driver.events import Running
from cluster.driver.record.signs import ALIVE_S, EVERY_S, Driver, Signs
from pcworker.errors import StoreError
from pcworker.store.keys import SweepKeys
from pcworker.store.store import Store


class Heartbeat:
    """This driver's signs of life in the store. Threads may share it."""

    def __init__(
        self, store: Store, sweep: str, say: Callable[[str], None] = lambda message: None
    ) -> None:
        """`say` is called with a message when the store cannot be written, and when it can be
        written again."""
        self._store, self._sweep, self._say = store, sweep, say
        self._in_trouble = False
        self._key = SweepKeys(sweep).driver(uuid.uuid4().hex[:12])
        self._writing, self._ended = threading.Lock(), False
        self._signs, self._looking = Signs(store, sweep, but=self._key), threading.Lock()
        self._started, self._last = time.time(), -EVERY_S
        self._written = time.monotonic()
        self._at_work = Running({}, ())

    def beat(self) -> None:
        """Gives a sign of life, unless the last one is less than EVERY_S old."""
        if time.monotonic() - self._last >= EVERY_S:
            if self._last < 0:
                self.others()  # A sign that has changed when this is asked again is alive.
            self._last = time.monotonic()
            self._write(ended=False)

    def tell(self, at_work: Running) -> None:
        """Remembers what is at work now, for the next sign of life."""
        self._at_work = at_work

    def end(self) -> None:
        """Gives a last sign of life, which says that this driver has ended."""
        self._at_work, self._ended = Running({}, ()), True
        if not self._in_trouble:  # A user who interrupts the driver should not wait for a store.
            self._write(ended=True)

    @property
    def store_answers(self) -> bool:
        """True if the store has taken a sign of life not long ago."""
        return not self._in_trouble and time.monotonic() - self._written < ALIVE_S

    def others(self) -> list[Driver]:
        """Returns the other drivers that seem alive and began before this one."""
        return [driver for driver in self.company() if driver.started < self._started]

    def company(self) -> list[Driver]:
        """Returns all other drivers that seem alive."""
        try:
            with self._looking:
                drivers = self._signs.look()
        except StoreError:
            return []
        return [driver for driver in drivers if driver.alive(time.time())]

    def _write(self, ended: bool) -> None:
        with self._writing:
            if self._ended and not ended:  # The last sign must stay the last one.
                return
            try:
                self._store.put(self._key, self._sign(ended))
            except StoreError as error:  # Advice is not worth a sweep.
                if not self._in_trouble:
                    self._say(
                        f"{error}; waiting for the store: workers keep their results till then"
                    )
                self._in_trouble = True
                return
            if self._in_trouble:
                self._say(f"store {self._store.url} answers again")
            self._in_trouble, self._written = False, time.monotonic()

    def _sign(self, ended: bool) -> bytes:
        at_work = self._at_work
        sign = {
            "hostname": socket.gethostname(),
            "time": time.time(),
            "ended": ended,
            "workers": [asdict(worker) for worker in at_work.workers],
            "running": {shard: asdict(at) for shard, at in at_work.shards.items()},
            "started": self._started,
        }
        return json.dumps(sign).encode()
