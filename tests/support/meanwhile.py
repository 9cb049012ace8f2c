"""A store in which something happens at a chosen moment of another one's work, as it does where two
processes use the same store. No clock decides when."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pcworker.store.local import LocalStore

Moment = tuple[Literal["list", "get", "put"], str]
"""An operation, and the end of the key that it is called with."""


class Meanwhile(LocalStore):
    """Calls `event` before the given operation: the first time only, or every time."""

    def __init__(
        self, root: Path, moment: Moment, event: Callable[[], object], always: bool = False
    ) -> None:
        super().__init__(root)
        self._moment, self._event, self._always = moment, event, always
        self.times = 0
        """How often the moment has come."""

    def list(self, prefix: str) -> list[str]:
        self._pass("list", prefix)
        return super().list(prefix)

    def get(self, key: str) -> bytes | None:
        self._pass("get", key)
        return super().get(key)

    def put(self, key: str, data: bytes) -> None:
        self._pass("put", key)
        super().put(key, data)

    def _pass(self, operation: str, key: str) -> None:
        if operation == self._moment[0] and key.endswith(self._moment[1]):
            self.times += 1
            if self._always or self.times == 1:
                self._event()
