"""An outage of the store is waited out, and nothing else is."""

from pathlib import Path

import pytest

from pcworker.errors import StoreError, UnavailableError
from pcworker.store import patient
from pcworker.store.local import LocalStore
from pcworker.store.patient import PatientStore


class Failing(LocalStore):
    """A store that raises `error` the first `times` times."""

    def __init__(self, root: Path, error: type[StoreError], times: int) -> None:
        super().__init__(root)
        self.error, self.left, self.calls = error, times, 0

    def _fail(self) -> None:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise self.error("the store is away")

    def get(self, key: str) -> bytes | None:
        self._fail()
        return super().get(key)

    def put(self, key: str, data: bytes) -> None:
        self._fail()
        super().put(key, data)


def test_an_outage_is_waited_out_and_told_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patient, "LONGEST_PAUSE_S", 0.1)
    said: list[str] = []
    store = Failing(tmp_path, UnavailableError, 3)
    PatientStore(store, said.append).put("a/b", b"1")
    assert (store.get("a/b"), store.calls) == (b"1", 5)
    assert said == ["the store is away; waiting for the store, for up to 60 minutes"]


def test_another_trouble_is_not_waited_for(tmp_path: Path) -> None:
    store = Failing(tmp_path, StoreError, 1)
    with pytest.raises(StoreError, match="the store is away"):
        PatientStore(store).get("a/b")
    assert store.calls == 1


def test_it_does_what_the_store_does(tmp_path: Path) -> None:
    store = PatientStore(LocalStore(tmp_path))
    assert store.put_if_absent("a/b", b"1")
    assert not store.put_if_absent("a/b", b"2")
    store.put("a/c", b"3")
    assert store.list("a/") == ["a/b", "a/c"]
    store.delete("a/b")
    assert store.get("a/b") is None
    assert store.describe("a/c") == str(tmp_path / "a" / "c")
    store.check()
