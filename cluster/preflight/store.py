"""Looks at the store before a sweep, without Ray. It only finds facts, as `cluster.preflight.look`
does for the cluster."""

import time
from typing import Any

from cluster.preflight.findings import StoreFound
from cluster.preflight.node import disk
from pcworker.errors import OverwritingError, StoreError
from pcworker.store.store import Store


def look_at_store(store: Store) -> StoreFound:
    """Tries the store as `Store.check` does, and says which step failed. The probe object that it
    writes is deleted again."""
    seen: dict[str, Any] = {"url": store.url}
    try:
        store.list("probe/")
        sent = time.time()
        clock = store.clock()
        seen["ahead_s"] = None if clock is None else ahead(sent, clock, time.time(), tick=1.0)
    except StoreError as error:
        return StoreFound(**seen, unreachable=str(error))
    if "://" not in store.url:
        seen["free_bytes"] = disk(store.url)[0]
    try:
        store.check()
    except OverwritingError as error:
        return StoreFound(**seen, overwrites=str(error))
    except StoreError as error:
        return StoreFound(**seen, unwritable=str(error))
    return StoreFound(**seen)


def ahead(sent: float, there: float, received: float, tick: float = 0.0) -> float:
    """The seconds by which another clock is certainly ahead of this one; negative if it is behind.

    sent, received  this clock before and after the other one was read
    there           the time that the other clock gave, rounded down to a multiple of `tick`
    """
    if there > received:
        return there - received
    return min(0.0, there + tick - sent)
