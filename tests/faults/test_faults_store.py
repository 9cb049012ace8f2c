"""A directory as a store whose disk is full, or in which something was damaged."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from faults import (
    KEYS,
    arguments,
    assert_nothing_lost,
    assert_trained_once,
    collected,
    commits,
    finished,
    kill_mid_shard,
    running,
    unfinished,
)

from pcworker.store.local import LocalStore

pytestmark = pytest.mark.faults

DISK_BYTES = 64 * 2**20
ROOM_LEFT_BYTES = 64 * 2**10
"""Enough for a small file, not for a network's weights: a disk is seldom full to the last byte."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if done.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        # lazily: a process that is just ending may still hold a file of it
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("room", [0, ROOM_LEFT_BYTES])
def test_a_full_disk_ends_the_driver_with_one_line_and_loses_nothing(disk: Path, room: int) -> None:
    store = LocalStore(disk / "store")
    ballast = disk / "ballast"
    command = arguments(store, "--workers", "1")
    with running(*command) as job:
        job.wait_for(lambda: commits(store) and unfinished(store), "a commit and a checkpoint")
        fill(ballast, room)
        before = commits(store)
        done = job.end()
    done.says_one_line("error:", str(disk), "No space left on device", "space on its disk")
    assert len(done.events("failed")) <= 1  # nothing is trained for a disk that cannot take it
    assert commits(store) == before
    ballast.unlink()
    again = finished(*command)
    assert again.code == 0, again.stderr
    assert_trained_once(store)
    assert_nothing_lost(store, before)


def fill(path: Path, room: int) -> None:
    """Takes all the space of a disk, but for `room` bytes."""
    with path.open("wb", buffering=0) as file:
        with suppress(OSError):
            while file.write(bytes(2**16)):
                pass
        with suppress(OSError):
            while file.write(bytes(512)):
                pass
        if room:
            file.truncate(file.tell() - room)
            os.fsync(file.fileno())


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> LocalStore:
    """The sweep with a killed worker, and so with the record of a failure."""
    store = LocalStore(tmp_path_factory.mktemp("killed"))
    with running(*arguments(store, "--workers", "1")) as job:
        kill_mid_shard(job, store)
        assert job.end().code == 0
    return store


@pytest.fixture
def copy(killed: LocalStore, tmp_path: Path) -> LocalStore:
    return LocalStore(shutil.copytree(killed.root, tmp_path / "copy"))


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def corrupted(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [truncated, corrupted])
def test_what_is_damaged_is_named_and_mended_by_doing_what_the_message_says(
    copy: LocalStore, damage: Callable[[Path], None]
) -> None:
    first, second, third = sorted(commits(copy))
    [failure] = copy.list(KEYS.failures)
    [parquet] = [k for k in copy.list(KEYS.attempts(second)) if k.endswith("weights.parquet")]
    for key in (KEYS.commit(first), parquet, failure):
        damage(copy.root / key)
    mending = [str(copy.root / key) for key in (KEYS.commit(first), KEYS.commit(second), failure)]

    refused = collected(copy)
    refused.says_one_line("delete", "damaged", str(copy.root / parquet), *mending)
    partial = collected(copy, "--partial")
    assert (partial.code, partial.stderr) == (0, "")
    assert "14 trials are missing" in partial.stdout
    before = {third: commits(copy)[third]}  # readable all the time
    for path in mending:
        Path(path).unlink()
    again = finished(*arguments(copy, "--workers", "1"))
    assert again.code == 0, again.stderr
    assert {event["shard"] for event in again.events("committed")} == {first, second}
    assert_nothing_lost(copy, before)


@pytest.mark.parametrize("damage", [truncated, corrupted])
def test_a_damaged_plan_is_named_and_made_anew_by_the_same_command(
    copy: LocalStore, damage: Callable[[Path], None]
) -> None:
    plan, before = copy.root / KEYS.plan, commits(copy)
    whole = plan.read_bytes()
    damage(plan)
    for refused in (finished(*arguments(copy)), collected(copy, "--partial")):
        refused.says_one_line(str(plan), "damaged", "restore the file")
    plan.write_bytes(whole)  # one way
    assert collected(copy).code == 0
    assert_nothing_lost(copy, before)
    plan.unlink()  # the other: a plan is a function of the trials
    again = finished(*arguments(copy))
    assert again.code == 0, again.stderr
    assert not again.events("committed")  # all was there
    done = collected(copy)
    assert done.code == 0, done.stderr
    assert_nothing_lost(copy, before)
