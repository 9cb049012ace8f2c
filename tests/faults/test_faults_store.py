"""The store is a directory whose disk is full, or in which something was damaged."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from builders import record_failure
from faults import (
    KEYS,
    NAME,
    TRIALS,
    arguments,
    assert_nothing_lost,
    assert_trained_once,
    collected,
    commits,
    here,
    running,
    unfinished,
)

from cluster.sweeps.stored import read_plan
from jobs.experiments import EXPERIMENTS
from pcworker.store.local import LocalStore

pytestmark = pytest.mark.faults

DISK_BYTES = 64 * 2**20
ROOM_LEFT_BYTES = 64 * 2**10
"""There is enough for a small file but not for a network's weights: a disk is seldom full to the
last byte."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of the test's own."""
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


def test_a_full_disk_ends_the_driver_with_one_line_and_loses_nothing(
    disk: Path, undisturbed: LocalStore
) -> None:
    """While a shard is trained, the disk is nearly full at first, for a worker on Ray, and full the
    next time, for one in the driver's process. When there is space again the command goes on."""
    store = LocalStore(disk / "store")
    for room, how in ((ROOM_LEFT_BYTES, ("--workers", "1")), (0, ("--local-debug",))):
        with running(*arguments(store, *how)) as job:
            job.says(" event=worker ")
            job.wait_for(lambda: commits(store) and unfinished(store), "a commit and a checkpoint")
            fill(disk / "ballast", room)
            before = commits(store)
            done = job.end()
        done.says_one_line("error:", str(disk), "No space left on device", "space on its disk")
        assert len(done.events("failed")) <= 1  # nothing is trained for a disk that cannot take it
        assert commits(store) == before
        (disk / "ballast").unlink()
    again = here(*arguments(store, "--local-debug"))
    assert again.code == 0, again.stderr
    assert_trained_once(store)
    assert_nothing_lost(store, before, undisturbed)


def fill(path: Path, room: int) -> None:
    """Takes all the space of a disk except for `room` bytes."""
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


@pytest.fixture
def copy(undisturbed: LocalStore, tmp_path: Path) -> LocalStore:
    """The undisturbed sweep, and in it the record of an attempt that was lost."""
    store = LocalStore(shutil.copytree(undisturbed.root, tmp_path / "copy"))
    plan = read_plan(store, NAME, EXPERIMENTS)
    assert plan is not None
    record_failure(store, plan, plan.shards[0], kind="lost", quarantined=False)
    return store


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def corrupted(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_what_is_damaged_is_named_and_mended_by_doing_what_the_message_says(
    copy: LocalStore, undisturbed: LocalStore
) -> None:
    """A commit, a table and the record of a failure are damaged.

    `test_sweep_on_ray` and `test_commit` show that every kind of damage is named.
    """
    first, second, third = sorted(commits(copy))
    [failure] = copy.list(KEYS.failures)
    [weights] = [k for k in copy.list(KEYS.attempts(second)) if k.endswith("weights.parquet")]
    truncated(copy.root / KEYS.commit(first))
    corrupted(copy.root / weights)
    truncated(copy.root / failure)
    mending = [str(copy.root / key) for key in (KEYS.commit(first), KEYS.commit(second), failure)]

    collected(copy).says_one_line("delete", "damaged", str(copy.root / weights), *mending)
    partial = collected(copy, "--partial")
    assert (partial.code, partial.stderr) == (0, "")
    assert f"{2 * TRIALS} trials are missing" in partial.stdout
    before = {third: commits(copy)[third]}  # readable all the time
    for path in mending:
        Path(path).unlink()
    again = here(*arguments(copy, "--local-debug"))
    assert again.code == 0, again.stderr
    assert {event["shard"] for event in again.events("committed")} == {first, second}
    assert_nothing_lost(copy, before, undisturbed)


@pytest.mark.parametrize("damage", [truncated, corrupted])
def test_a_damaged_plan_is_named_and_made_anew_by_the_same_command(
    copy: LocalStore, undisturbed: LocalStore, damage: Callable[[Path], None]
) -> None:
    plan, before = copy.root / KEYS.plan, commits(copy)
    whole = plan.read_bytes()
    damage(plan)
    for refused in (here(*arguments(copy)), collected(copy, "--partial")):
        refused.says_one_line(str(plan), "damaged", "restore the file")
    plan.write_bytes(whole)  # one way
    assert collected(copy).code == 0
    assert_nothing_lost(copy, before, undisturbed)
    plan.unlink()  # the other way, because trials determine their plan
    again = here(*arguments(copy))
    assert again.code == 0, again.stderr
    assert not again.events("committed")  # all was there
    done = collected(copy)
    assert done.code == 0, done.stderr
    assert_nothing_lost(copy, before, undisturbed)


WORKER = {"hostname": "far", "pid": 1, "node_id": "n", "device": "cpu", "memory": 1}


@pytest.mark.parametrize("workers", [[WORKER], {"far": WORKER}], ids=["more", "other"])
def test_a_running_sweep_is_not_deleted_although_its_driver_is_of_another_version(
    copy: LocalStore, undisturbed: LocalStore, monkeypatch: pytest.MonkeyPatch, workers: Any
) -> None:
    """Its sign of life has a field more, or fields of other types. It changes every second."""
    before, key, seconds = commits(copy), KEYS.driver("0e"), count()

    def beat(pause: float = 1.0) -> None:
        sign = {"hostname": "far", "ended": False, "workers": workers, "running": {}}
        copy.put(key, json.dumps({**sign, "time": next(seconds), "started": 0}).encode())

    beat()
    monkeypatch.setattr(time, "sleep", beat)
    refused = here("jobs.delete", "--store", copy.url, "--sweep", NAME, "--yes")
    assert (refused.code, refused.stderr.count("\n")) == (2, 1)
    assert "nothing was deleted" in refused.stderr
    assert_nothing_lost(copy, before, undisturbed)


@pytest.mark.parametrize("name", ["linked", f"{NAME}+linked"])
def test_a_sweep_behind_a_link_is_not_deleted(
    copy: LocalStore, undisturbed: LocalStore, name: str
) -> None:
    before = commits(copy)
    (copy.root / "sweeps" / name).symlink_to(NAME)
    refused = here("jobs.delete", "--store", copy.url, "--sweep", name, "--yes")
    assert (refused.code, refused.stderr.count("\n")) == (2, 1)
    assert "is a link to" in refused.stderr
    assert_nothing_lost(copy, before, undisturbed)
