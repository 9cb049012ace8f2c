"""The local store: whole objects, one winner, errors in one line."""

import multiprocessing
import os
import pickle
import stat
import threading
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from pcworker.errors import InputError, StoreError
from pcworker.store.local import LocalStore
from pcworker.store.store import Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def files_below(store: LocalStore) -> list[str]:
    return sorted(p.relative_to(store.root).as_posix() for p in store.root.rglob("*.*"))


def test_what_is_put_is_got(store: LocalStore) -> None:
    for data in (b"", b"a", bytes(range(256)) * 1000):
        store.put("a/b.bin", data)
        assert store.get("a/b.bin") == data


def test_put_replaces_and_leaves_nothing_else_behind(store: LocalStore) -> None:
    store.put("a/b.bin", b"first and longer")
    store.put("a/b.bin", b"second")
    assert store.get("a/b.bin") == b"second"
    assert files_below(store) == ["a/b.bin"]


def test_nothing_is_none(store: LocalStore) -> None:
    assert store.get("a/b.bin") is None
    store.put("a", b"a file, not a folder")
    assert store.get("a/b.bin") is None


def test_put_if_absent_writes_once(store: LocalStore) -> None:
    assert store.put_if_absent("a/b.bin", b"first")
    assert not store.put_if_absent("a/b.bin", b"second")
    assert store.get("a/b.bin") == b"first"
    assert files_below(store) == ["a/b.bin"]


def test_put_if_absent_does_not_overwrite_what_put_wrote(store: LocalStore) -> None:
    store.put("a/b.bin", b"")
    assert not store.put_if_absent("a/b.bin", b"second")
    assert store.get("a/b.bin") == b""


def test_list_gives_the_keys_of_a_folder_in_order(store: LocalStore) -> None:
    for key in ("a/2/y", "a/1/z", "a/1/x", "a/3", "ab/1", "b"):
        store.put(key, b"1")
    assert store.list("a/") == ["a/1/x", "a/1/z", "a/2/y", "a/3"]
    assert store.list("a/1/") == ["a/1/x", "a/1/z"]
    assert store.list("none/") == []


def test_delete_removes_and_does_not_mind_nothing(store: LocalStore) -> None:
    store.put("a/b.bin", b"1")
    store.delete("a/b.bin")
    store.delete("a/b.bin")
    store.delete("none/b.bin")
    store.put("file", b"1")
    store.delete("file/b.bin")
    assert store.get("a/b.bin") is None
    assert store.list("a/") == []
    assert store.put_if_absent("a/b.bin", b"2")


def test_a_store_at_the_same_place_sees_the_same_objects(store: LocalStore) -> None:
    store.put("a/b.bin", b"1")
    again = open_store(store.url)
    assert again.get("a/b.bin") == b"1"
    assert again.url == store.url


def test_a_pickled_store_is_at_the_same_place(store: LocalStore) -> None:
    store.put("a/b.bin", b"1")
    assert pickle.loads(pickle.dumps(store)).get("a/b.bin") == b"1"


def test_a_relative_store_stays_where_it_was_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    opened = open_store("results")
    monkeypatch.chdir("/")
    opened.put("a", b"1")
    assert (tmp_path / "results/a").read_bytes() == b"1"
    assert open_store(opened.url).get("a") == b"1"


def test_describe_is_the_path_of_the_file(store: LocalStore) -> None:
    store.put("a/b.bin", b"1")
    assert Path(store.describe("a/b.bin")).read_bytes() == b"1"


def test_check_passes_on_a_fresh_folder_and_leaves_it_empty(store: LocalStore) -> None:
    store.check()
    assert list(store.root.iterdir()) == []


def test_check_refuses_a_store_that_overwrites(store: LocalStore) -> None:
    class Forgetful(LocalStore):
        """Ignores the condition of a conditional write, as some object stores do."""

        def put_if_absent(self, key: str, data: bytes) -> bool:
            self.put(key, data)
            return True

    with pytest.raises(StoreError, match="must not overwrite"):
        Forgetful(store.root).check()
    assert list(store.root.iterdir()) == []


# Races


KEYS = [f"shards/{k}/commit.json" for k in range(30)]


def claim(store: Store, me: str) -> list[str]:
    """Tries for every key; returns those won."""
    return [key for key in KEYS if store.put_if_absent(key, f"{me} has {key}".encode() * 50)]


def assert_one_winner_each(store: LocalStore, won: dict[str, list[str]]) -> None:
    winners = [(key, me) for me, keys in won.items() for key in keys]
    assert sorted(key for key, _ in winners) == sorted(KEYS)
    for key, me in winners:
        assert store.get(key) == f"{me} has {key}".encode() * 50
    assert store.list("shards/") == sorted(KEYS)
    assert files_below(store) == sorted(KEYS)


def test_of_8_threads_exactly_one_wins_each_key(store: LocalStore) -> None:
    start = threading.Barrier(8)
    won: dict[str, list[str]] = {}

    def run(me: str) -> None:
        start.wait()
        won[me] = claim(store, me)

    threads = [threading.Thread(target=run, args=(f"thread {k}",)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_one_winner_each(store, won)


def _claim_in_a_process(
    url: str, me: str, start: Barrier, answers: "multiprocessing.Queue[tuple[str, list[str]]]"
) -> None:
    opened = open_store(url)
    start.wait()
    answers.put((me, claim(opened, me)))


def test_of_4_processes_exactly_one_wins_each_key(store: LocalStore) -> None:
    spawn = multiprocessing.get_context("spawn")
    start, answers = spawn.Barrier(4), spawn.Queue()
    processes = [
        spawn.Process(target=_claim_in_a_process, args=(store.url, f"process {k}", start, answers))
        for k in range(4)
    ]
    for process in processes:
        process.start()
    won = dict(answers.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    answers.close()
    answers.join_thread()
    assert_one_winner_each(store, won)


def test_readers_see_all_of_the_old_or_all_of_the_new(store: LocalStore) -> None:
    old, new = b"o" * 300_000, b"n" * 400_000
    store.put("a/b.bin", old)
    finished = threading.Event()
    seen: set[bytes | None] = set()
    listed: set[tuple[str, ...]] = set()

    def read() -> None:
        while not finished.is_set():
            seen.add(store.get("a/b.bin"))
            listed.add(tuple(store.list("a/")))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    for turn in range(60):
        store.put("a/b.bin", (new, old)[turn % 2])
    finished.set()
    reader.join()
    assert seen <= {old, new}
    assert listed == {("a/b.bin",)}


def test_a_conditional_write_appears_whole(store: LocalStore) -> None:
    data = b"x" * 500_000
    keys = [f"a/{k}" for k in range(30)]
    seen: set[bytes | None] = set()

    def read() -> None:
        for key in keys:
            while (got := store.get(key)) is None:
                pass
            seen.add(got)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    for key in keys:
        assert store.put_if_absent(key, data)
    reader.join()
    assert seen == {data}


# Trouble


@pytest.mark.parametrize(
    "key",
    ["../a", "a/../b", "/etc/passwd", "a//b", "./a", "", "..", "a/..", "a\0b", "a\0/b", "a/\0"],
)
def test_keys_that_leave_the_store_or_name_no_file_are_refused(store: LocalStore, key: str) -> None:
    for use in (
        lambda: store.get(key),
        lambda: store.put(key, b"1"),
        lambda: store.put_if_absent(key, b"1"),
        lambda: store.list(key),
        lambda: store.delete(key),
        lambda: store.describe(key),
    ):
        with pytest.raises(StoreError, match="leaves the store"):
            use()
    assert not store.root.exists()


def assert_one_line(error: StoreError, *mentioned: str) -> None:
    assert isinstance(error, InputError)
    assert "\n" not in str(error)
    for word in mentioned:
        assert word in str(error)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_an_error_in_one_line(tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o500)
    store = LocalStore(locked)
    for use in (
        lambda: store.put("a/b", b"1"),
        lambda: store.put_if_absent("a/b", b"1"),
        store.check,
    ):
        with pytest.raises(StoreError) as caught:
            use()
        assert_one_line(caught.value, str(locked), "Permission denied")


def test_a_store_below_a_regular_file_is_an_error_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = LocalStore(tmp_path / "file" / "store")
    for use in (
        lambda: store.put("a/b", b"1"),
        lambda: store.put_if_absent("a/b", b"1"),
        store.check,
    ):
        with pytest.raises(StoreError) as caught:
            use()
        assert_one_line(caught.value, store.url, "cannot write")


def test_a_file_in_the_place_of_a_folder_is_not_taken_for_a_lost_race(store: LocalStore) -> None:
    store.put("a", b"a file")
    with pytest.raises(StoreError, match="cannot write a/b"):
        store.put_if_absent("a/b", b"1")


@pytest.mark.parametrize(
    "url",
    ["gs://bucket/prefix", "ftp://host/folder", "s3:/bucket/prefix", "https://me:pass@host/b"],
)
def test_a_url_of_another_kind_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(StoreError) as caught:
        open_store(url)
    assert_one_line(caught.value, url.partition("/")[0])
    assert "pass" not in str(caught.value)


def test_a_directory_with_an_s3_endpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="has no S3 endpoint"):
        open_store(str(tmp_path), "http://127.0.0.1:1")


@pytest.mark.usefixtures("umask")
def test_others_may_read_what_the_umask_lets_them(store: LocalStore) -> None:
    store.put("a/put", b"1")
    store.put_if_absent("a/linked", b"1")
    for key in ("a/put", "a/linked"):
        assert stat.S_IMODE(Path(store.describe(key)).stat().st_mode) == 0o644
    assert stat.S_IMODE((store.root / "a").stat().st_mode) == 0o755
