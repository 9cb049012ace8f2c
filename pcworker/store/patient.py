"""Wraps a store so that an outage of its server costs time, but never results."""

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_delay,
    stop_when_event_set,
)
from tenacity import wait_random_exponential as backoff

from pcworker.errors import UnavailableError
from pcworker.store.store import Store

PATIENCE_S = 3600.0
"""How long an operation is tried again."""
LONGEST_PAUSE_S = 30.0
INTERRUPTED = threading.Event()
"""It is set when this process must end. Then no thread waits for a store any longer."""

_T = TypeVar("_T")


class PatientStore:
    """A store that repeats every operation of another store, for up to an hour, while that one
    raises UnavailableError.

    If the answer to a `put_if_absent` was lost, its repetition may return False although this
    writer wrote. So the caller must then read what is there, as `commit_shard` does.
    """

    def __init__(self, store: Store, say: Callable[[str], None] = lambda message: None) -> None:
        """
        store  the store whose operations are repeated
        say    it is called once per outage, with a message for the user
        """
        self._store, self._say = store, say
        self._lock, self._waits = threading.Lock(), False
        self.url, self.options = store.url, store.options
        self.describe = store.describe

    def get(self, key: str) -> bytes | None:
        return self._patiently(lambda: self._store.get(key))

    def put(self, key: str, data: bytes) -> None:
        self._patiently(lambda: self._store.put(key, data))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        return self._patiently(lambda: self._store.put_if_absent(key, data))

    def list(self, prefix: str) -> list[str]:
        return self._patiently(lambda: self._store.list(prefix))

    def folders(self, prefix: str) -> Sequence[str]:
        return self._patiently(lambda: self._store.folders(prefix))

    def delete(self, key: str) -> None:
        self._patiently(lambda: self._store.delete(key))

    def prune(self, prefix: str) -> None:
        self._patiently(lambda: self._store.prune(prefix))

    def require_no_links(self, prefix: str) -> None:
        self._patiently(lambda: self._store.require_no_links(prefix))

    def check(self) -> None:
        self._patiently(self._store.check)

    def clock(self) -> float | None:
        return self._patiently(self._store.clock)

    def _patiently(self, call: Callable[[], _T]) -> _T:
        result = Retrying(
            retry=retry_if_exception_type(UnavailableError),
            wait=backoff(max=LONGEST_PAUSE_S),
            stop=stop_after_delay(PATIENCE_S) | stop_when_event_set(INTERRUPTED),
            sleep=sleep_using_event(INTERRUPTED),
            before_sleep=self._before_pause,
            reraise=True,
        )(call)
        self._waits = False
        return result

    def _before_pause(self, state: RetryCallState) -> None:
        with self._lock:
            first, self._waits = not self._waits, True
        if first and state.outcome is not None:
            self._say(
                f"{state.outcome.exception()}; waiting for the store, for up to "
                f"{PATIENCE_S / 60:.0f} minutes"
            )
