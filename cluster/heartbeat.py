"""Drivers tell each other that they are there. It is advice only: what is true is in the commits.

Two drivers on one sweep are safe at any time. Knowing of each other they begin at opposite ends of
the plan, so that few shards are run twice.
"""

import json
import socket
import time
import uuid
from contextlib import suppress
from typing import Any

from pcworker.errors import StoreError
from pcworker.layout import SweepKeys
from pcworker.store import Store

EVERY_S = 10.0
ALIVE_S = 3 * EVERY_S
"""A driver not heard of for so long is not waited for."""


class Heartbeat:
    """This driver's sign of life in the store, and the others'."""

    def __init__(self, store: Store, sweep: str) -> None:
        self._store, self._keys = store, SweepKeys(sweep)
        self._driver = uuid.uuid4().hex[:12]
        self._last = -EVERY_S

    def beat(self) -> None:
        """Says that this driver is alive, if it has not done so for a while."""
        if time.monotonic() - self._last >= EVERY_S:
            self._last = time.monotonic()
            self._write(ended=False)

    def end(self) -> None:
        """Says that this driver has ended."""
        self._write(ended=True)

    def others(self) -> list[str]:
        """The hosts of other drivers that seem alive."""
        found = []
        for key in self._store.list(self._keys.drivers):
            if key != self._keys.driver(self._driver) and (host := self._alive(key)):
                found.append(host)
        return found

    def _write(self, ended: bool) -> None:
        sign = {"hostname": socket.gethostname(), "time": time.time(), "ended": ended}
        with suppress(StoreError):  # advice is not worth a sweep
            self._store.put(self._keys.driver(self._driver), json.dumps(sign).encode())

    def _alive(self, key: str) -> str | None:
        """The host of a driver, or None if it has ended, is silent or left nothing readable."""
        try:
            sign: Any = json.loads(self._store.get(key) or b"")
            alive = not sign["ended"] and abs(time.time() - sign["time"]) < ALIVE_S
            return str(sign["hostname"]) if alive else None
        except (ValueError, KeyError, TypeError):
            return None
