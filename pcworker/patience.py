"""A store that is waited for: an outage costs time, never results."""

from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay
from tenacity import wait_random_exponential as backoff

from pcworker.errors import UnavailableError
from pcworker.store import Store

PATIENCE_S = 3600.0
LONGEST_PAUSE_S = 30.0

T = TypeVar("T")


class PatientStore:
    """Another store, of which every operation is tried anew, for up to an hour, while it raises
    UnavailableError.

    A `put_if_absent` whose first answer was lost may then say False: its caller reads what is there
    (as `commit_shard` does).
    """

    def __init__(self, store: Store, say: Callable[[str], None] = lambda message: None) -> None:
        """`say` is told once an outage what is waited for."""
        self._store, self._say = store, say
        self.url, self.options = store.url, store.options
        self.describe = store.describe
        self.check = store.check

    def get(self, key: str) -> bytes | None:
        return self._patiently(lambda: self._store.get(key))

    def put(self, key: str, data: bytes) -> None:
        self._patiently(lambda: self._store.put(key, data))

    def put_if_absent(self, key: str, data: bytes) -> bool:
        return self._patiently(lambda: self._store.put_if_absent(key, data))

    def list(self, prefix: str) -> list[str]:
        return self._patiently(lambda: self._store.list(prefix))

    def delete(self, key: str) -> None:
        self._patiently(lambda: self._store.delete(key))

    def _patiently(self, call: Callable[[], T]) -> T:
        return Retrying(
            retry=retry_if_exception_type(UnavailableError),
            wait=backoff(max=LONGEST_PAUSE_S),
            stop=stop_after_delay(PATIENCE_S),
            before_sleep=self._before_pause,
            reraise=True,
        )(call)

    def _before_pause(self, state: RetryCallState) -> None:
        if state.attempt_number == 1 and state.outcome is not None:
            self._say(
                f"{state.outcome.exception()}; waiting for the store, for up to "
                f"{PATIENCE_S / 60:.0f} minutes"
            )
