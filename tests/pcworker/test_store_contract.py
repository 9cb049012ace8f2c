"""What every store promises: a local directory, and buckets on two servers, moto and SeaweedFS."""

import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from buckets import entered, fresh_url
from moto_server import moto_server
from races import content, winners
from seaweed import S3Server, seaweed

from pcworker.errors import StoreError
from pcworker.store.local import LocalStore
from pcworker.store.store import Store, open_store


@pytest.fixture(scope="module")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with seaweed(tmp_path_factory.mktemp("seaweed")) as running:
        yield running.server


@pytest.fixture(scope="module")
def moto() -> Iterator[S3Server]:
    with moto_server() as running:
        yield running


@pytest.fixture(params=["local", "moto", "weed"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store that nobody has written to."""
    if request.param == "local":
        return LocalStore(tmp_path / "store")
    return open_store(fresh_url(entered(request.getfixturevalue(request.param), monkeypatch)))


def test_what_is_put_is_got(store: Store) -> None:
    for data in (b"", b"a", bytes(range(256)) * 1000):
        store.put("a/b.bin", data)
        assert store.get("a/b.bin") == data


def test_put_replaces(store: Store) -> None:
    store.put("a/b.bin", b"first and longer")
    store.put("a/b.bin", b"second")
    assert store.get("a/b.bin") == b"second"
    assert store.list("a/") == ["a/b.bin"]


def test_folders_are_named_without_what_is_in_them(store: Store) -> None:
    assert store.folders("a/") == []
    for key in ("a/c/1.bin", "a/c/d/2.bin", "a/b/3.bin", "a/file.bin", "ab/other/4.bin"):
        store.put(key, b"x")
    assert store.folders("a/") == ["b", "c"]
    assert store.folders("a/c/") == ["d"]


def test_nothing_is_none(store: Store) -> None:
    assert store.get("a/b.bin") is None


def test_put_if_absent_writes_once(store: Store) -> None:
    assert store.put_if_absent("a/b.bin", b"first")
    assert not store.put_if_absent("a/b.bin", b"second")
    assert not store.put_if_absent("a/b.bin", b"first")
    assert store.get("a/b.bin") == b"first"


def test_put_if_absent_does_not_overwrite_what_put_wrote(store: Store) -> None:
    store.put("a/b.bin", b"")
    assert not store.put_if_absent("a/b.bin", b"second")
    assert store.get("a/b.bin") == b""


def test_list_gives_the_keys_of_a_folder_in_order(store: Store) -> None:
    for key in ("a/2/y", "a/1/z", "a/1/x", "a/3", "ab/1", "b", "a/4 +%&é"):
        store.put(key, b"1")
    assert store.list("a/") == ["a/1/x", "a/1/z", "a/2/y", "a/3", "a/4 +%&é"]
    assert store.list("a/1/") == ["a/1/x", "a/1/z"]
    assert store.list("none/") == []
    assert store.get("a/4 +%&é") == b"1"


def test_delete_removes_and_does_not_mind_nothing(store: Store) -> None:
    store.put("a/b.bin", b"1")
    store.delete("a/b.bin")
    store.delete("a/b.bin")
    store.delete("none/b.bin")
    assert store.get("a/b.bin") is None
    assert store.list("a/") == []
    assert store.put_if_absent("a/b.bin", b"2")


def test_a_store_at_the_same_url_sees_the_same_objects(store: Store) -> None:
    store.put("a/b.bin", b"1")
    again = open_store(store.url + "/")
    assert again.get("a/b.bin") == b"1"
    assert again.url == store.url


def test_a_pickled_store_is_at_the_same_place(store: Store) -> None:
    store.put("a/b.bin", b"1")
    opened = pickle.loads(pickle.dumps(store))
    assert (opened.url, opened.get("a/b.bin")) == (store.url, b"1")


def test_check_passes_and_leaves_nothing(store: Store) -> None:
    store.check()
    assert store.list("probe/") == []


KEYS_THAT_LEAVE = [
    "../a", "a/../b", "/etc/passwd", "a//b", "./a", "", "..", "a/..", "a\0b", "a\0/b", "a/\0",
]  # fmt: skip


def test_keys_that_leave_the_store_or_name_no_object_are_refused(store: Store) -> None:
    for key in KEYS_THAT_LEAVE:
        for use in (
            lambda key=key: store.get(key),
            lambda key=key: store.put(key, b"1"),
            lambda key=key: store.put_if_absent(key, b"1"),
            lambda key=key: store.list(key),
            lambda key=key: store.delete(key),
            lambda key=key: store.describe(key),
        ):
            with pytest.raises(StoreError, match="leaves the store") as caught:
                use()
            assert "\n" not in str(caught.value), key


# Races

KEYS = [f"shards/{k:02}/commit.json" for k in range(10)]


def test_of_8_threads_with_one_store_exactly_one_wins_each_key(store: Store) -> None:
    start = threading.Barrier(8)

    def run(me: int) -> list[str]:
        start.wait()
        return [key for key in KEYS if store.put_if_absent(key, content(me, key))]

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(run, range(8)))
    assert sorted(key for each in won for key in each) == KEYS
    for me, each in enumerate(won):
        assert [store.get(key) for key in each] == [content(me, key) for key in each]
    assert store.list("shards/") == KEYS


def test_of_4_processes_exactly_one_wins_each_key(
    weed: S3Server, moto: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store is fit for commits if it passes this. The same four processes race in all three."""
    entered(weed, monkeypatch)  # moto takes any credentials, also these
    local = LocalStore(tmp_path / "store")
    places = [(local.url, None), (fresh_url(weed), weed.endpoint), (fresh_url(moto), moto.endpoint)]
    for (url, endpoint), winners_of_keys in zip(places, winners(places, KEYS, 4), strict=True):
        store = open_store(url, endpoint)
        for key, who in zip(KEYS, winners_of_keys, strict=True):
            assert len(who) == 1, f"{key} of {url}: {who}"
            assert store.get(key) == content(who[0], key)
        assert store.list("shards/") == KEYS
    files = [path for path in local.root.rglob("*") if path.is_file()]
    assert len(files) == len(KEYS)  # the losers leave nothing behind
