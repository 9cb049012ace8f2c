"""What only a store in a local directory does: files that appear whole, and errors of a disk.

`test_store_contract` tests what every store promises.
"""

import os
import pickle
import shutil
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders import ablation, commit_all, planned
from power_loss import Disk

from pcworker.errors import InputError, StoreError
from pcworker.store.local import LocalStore
from pcworker.store.store import open_store


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


def test_a_write_leaves_nothing_behind_but_its_object(store: LocalStore) -> None:
    store.put("a/b.bin", b"first and longer")
    store.put("a/b.bin", b"second")
    assert store.put_if_absent("a/c.bin", b"first")
    assert not store.put_if_absent("a/c.bin", b"second")
    assert files_below(store) == ["a/b.bin", "a/c.bin"]


def test_there_is_nothing_below_a_file(store: LocalStore) -> None:
    store.put("a", b"a file, not a folder")
    assert store.get("a/b.bin") is None
    store.delete("a/b.bin")
    assert store.get("a") == b"a file, not a folder"


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


# Readers


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


# Power losses


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = Disk()
    monkeypatch.setattr(os, "fsync", disk.fsync)
    yield disk
    disk.close()


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_what_was_written_is_there_after_a_power_loss(disk: Disk, tmp_path: Path) -> None:
    """The store's own folder is new, too."""
    store = LocalStore(tmp_path / "new" / "store")
    store.put("a/b/c.bin", b"1")
    assert disk.after_power_loss(tmp_path) == {"new/store/a/b/c.bin": b"1"}
    assert store.put_if_absent("a/d/e.bin", b"2")
    assert not store.put_if_absent("a/d/e.bin", b"3")
    store.put("a/b/c.bin", b"4")
    left = {"new/store/a/b/c.bin": b"4", "new/store/a/d/e.bin": b"2"}
    assert {path: disk.after_power_loss(tmp_path).get(path) for path in left} == left


def test_folders_that_another_process_is_just_making_are_synced_too(
    disk: Disk, store: LocalStore
) -> None:
    store.put("a.bin", b"1")
    (store.root / "b" / "c").mkdir(parents=True)  # and not synced yet
    store.put("b/c/d.bin", b"2")
    assert disk.after_power_loss(store.root).get("b/c/d.bin") == b"2"
    other = pickle.loads(pickle.dumps(store))
    assert other.put_if_absent("b/e.bin", b"3")
    assert disk.after_power_loss(store.root).get("b/e.bin") == b"3"


def test_a_folder_that_was_deleted_and_made_again_is_synced_again(
    disk: Disk, store: LocalStore
) -> None:
    store.put("a/b/c.bin", b"1")
    shutil.rmtree(store.root / "a")
    store.put("a/b/c.bin", b"2")
    assert disk.after_power_loss(store.root).get("a/b/c.bin") == b"2"


def test_folders_are_synced_also_where_more_are_made_than_remembered(
    disk: Disk, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pcworker.machine.disk.REMEMBERED", 2)
    keys = [f"{outer}/{inner}/c.bin" for outer in "abc" for inner in "def"]
    for key in keys:
        store.put(key, key.encode())
    assert disk.after_power_loss(store.root) == {key: key.encode() for key in keys}


def test_no_commit_outlives_its_data(
    disk: Disk, store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit may be on the disk from the moment at which it is visible. Then all that the attempt
    has written before must be there already."""
    plan = planned(store, ablation(networks=["784-2-10"]), "a")
    looks = 0

    def fsync(descriptor: int) -> None:
        nonlocal looks
        visible = contents(store.root)
        for commit in [path for path in visible if path.endswith("/commit.json")]:
            looks += 1
            attempts = commit.removesuffix("commit.json") + "attempts/"
            data = {path for path in visible if path.startswith(attempts)}
            left = disk.after_power_loss(store.root)
            assert data
            assert {path: left.get(path) for path in data} == {path: visible[path] for path in data}
        disk.fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    commit_all(store, plan)
    assert looks
    assert contents(store.root).items() <= disk.after_power_loss(store.root).items()


# Trouble


def test_a_key_that_is_refused_makes_no_folder(store: LocalStore) -> None:
    for key in ("../a", "a/../b", "a/..", "a\0/b"):
        with pytest.raises(StoreError, match="leaves the store"):
            store.put(key, b"1")
        with pytest.raises(StoreError, match="leaves the store"):
            store.put_if_absent(key, b"1")
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
