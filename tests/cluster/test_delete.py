"""Deleting a sweep removes all of it and nothing else. Results are made up (see `builders`)."""

import json
import os
import pty
import re
import shutil
import sys
import time
from pathlib import Path

import pytest
from builders import ablation, collected, commit_all, planned, record_failure
from command_lines import called

from cluster.deletion import WATCH_S, at_work, delete, doomed, in_stages
from cluster.driver.record.heartbeat import Heartbeat
from cluster.driver.record.signs import EVERY_S
from cluster.results.collect import write_tables
from cluster.results.reading import read_commits
from cluster.sweeps.plan import Plan
from cluster.sweeps.stored import read_plan
from jobs.delete import command
from jobs.experiments import EXPERIMENTS
from pcworker.errors import InputError
from pcworker.store.keys import SweepKeys
from pcworker.store.local import LocalStore

SEAL = b"1"
KEYS = SweepKeys("a")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def whole(store: LocalStore, name: str) -> Plan:
    """Stores a sweep with every kind of object that a sweep may leave."""
    plan = planned(store, ablation(networks=["784-2-10", "784-4-10"]), name)
    commit_all(store, plan)
    record_failure(store, plan, plan.shards[0])
    write_tables(store, collected(store, name))
    keys, shard = SweepKeys(name), plan.shards[0].shard_id
    store.put(keys.report("figure3.svg"), SEAL)
    store.put(keys.checkpoint(shard, "lost", 3), SEAL)
    store.put(keys.attempt(shard, "lost"), SEAL)
    heartbeat = Heartbeat(store, name)
    heartbeat.beat()
    heartbeat.end()
    return plan


def everything(store: LocalStore) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in store.root.rglob("*") if p.is_file()}


def run(store: LocalStore, name: str, *options: str) -> int:
    given = ["--store", store.url, "--sweep", name, *options]
    code = command(given, standalone_mode=False)
    assert isinstance(code, int)
    return code


def test_all_of_a_sweep_goes_and_nothing_of_another(
    store: LocalStore, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a-1", "a"):  # one name begins with the other
        whole(store, name)
        if name == "a-1":
            before = everything(store)
    assert run(store, "a", "--yes") == 0
    assert everything(store) == before
    assert not (store.root / "sweeps" / "a").exists()
    assert read_plan(store, "a", EXPERIMENTS) is None
    shown = capsys.readouterr().out
    assert "4 of 4 shards committed" in shown


def test_what_this_project_did_not_write_stays_and_is_named(
    store: LocalStore, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = whole(store, "a")
    mine = (
        *("sweeps/a/notes.txt", "sweeps/a/plan.json.old", "sweeps/a/report/notes.md"),
        *("sweeps/a/tables/mine.parquet", "sweeps/a/tables/more/trials.parquet"),
        f"sweeps/a/shards/{plan.shards[0].shard_id}/attempts/lost/mine.json",
    )
    for key in mine:
        store.put(key, SEAL)
    assert run(store, "a", "--yes") == 0
    assert store.list("sweeps/") == sorted(mine)
    assert "Kept 6 that are not the sweep's: sweeps/a/notes.txt" in capsys.readouterr().out


def test_tables_of_several_sweeps_go_without_the_sweeps(store: LocalStore) -> None:
    for name in ("a", "b"):
        whole(store, name)
    before = everything(store)
    write_tables(store, collected(store, "a", "b"))
    assert run(store, "a+b", "--yes") == 0
    assert everything(store) == before


def test_an_interrupted_deletion_leaves_no_damaged_sweep_and_the_same_command_goes_on(
    store: LocalStore,
) -> None:
    """Wherever the deletion stops, the rest reads as a sweep with fewer commits."""
    plan = whole(store, "a")
    for share in (0.0, 0.5, 0.9):
        found = doomed(store, "a", EXPERIMENTS)
        most = 1 + int(share * (found.count - 2))

        def stop(gone: int, most: int = most) -> None:
            if gone == most:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            delete(store, found, stop)
        read_commits(store, plan)  # it raises if a commit is damaged
        assert collected(store, "a").damaged == ()
        assert doomed(store, "a", EXPERIMENTS).count <= found.count - most
    assert run(store, "a", "--yes") == 0
    assert store.list("sweeps/") == []


def test_the_plan_goes_last_and_commits_before_the_files_that_they_name(store: LocalStore) -> None:
    whole(store, "a")
    stages, foreign = in_stages(SweepKeys("a"), store.list("sweeps/a/"), EXPERIMENTS.values())
    order = [key for stage in stages for key in stage]
    assert sorted(order) == store.list("sweeps/a/")
    assert foreign == ()
    assert order[-1] == "sweeps/a/plan.json"
    commits = [n for n, key in enumerate(order) if key.endswith("commit.json")]
    parquet = [n for n, key in enumerate(order) if "/attempts/" in key]
    assert max(commits) < min(parquet)


def test_a_sweep_at_work_is_refused_and_stays_whole(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver's clock is an hour slow, but its sign of life changes while it is watched."""
    whole(store, "a")
    driver = Heartbeat(store, "a")
    driver.beat()
    before = everything(store)
    seconds = iter(range(100))

    def second(length: float) -> None:
        if next(seconds) == WATCH_S - 1:  # it is the last second
            [key] = [k for k in store.list(KEYS.drivers) if b'"ended": false' in store.get(k)]
            sign = json.loads(store.get(key) or b"")
            store.put(key, json.dumps({**sign, "time": sign["time"] - 3600 + 10}).encode())

    monkeypatch.setattr(time, "sleep", second)
    with pytest.raises(InputError, match=r"a driver is at work.*nothing was deleted"):
        run(store, "a", "--yes")
    after = everything(store)
    assert after.keys() == before.keys()
    assert sum(after[name] != before[name] for name in after) == 1  # its sign of life


def sign_of_life(**more: object) -> bytes:
    """The sign of a running driver. `more` is what another version writes into it."""
    worker = {"hostname": "far", "pid": 1, "node_id": "n", "device": "cpu", **more}
    sign = {"hostname": "far", "time": 0.0, "ended": False, "started": 0.0, "running": {}}
    return json.dumps({**sign, "workers": [worker]}).encode()


def test_a_sweep_at_work_is_refused_whatever_else_its_driver_says(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver is of a later version, and its sign of life changes while it is watched."""
    whole(store, "a")
    key = KEYS.driver("0e")
    store.put(key, sign_of_life(memory=0))
    monkeypatch.setattr(time, "sleep", lambda s: store.put(key, sign_of_life(memory=1)))
    with pytest.raises(InputError, match="a driver is at work on it, on far; nothing was deleted"):
        run(store, "a", "--yes")
    assert collected(store, "a").damaged == ()


def test_a_sign_of_life_that_cannot_be_read_is_a_life(store: LocalStore) -> None:
    """The message says how to delete the sweep nevertheless."""
    whole(store, "a")
    said = [b"", b"{", b"[]", b'{"version": 2}', sign_of_life()[:-9]]
    for name, sign in [*(("0e.json", each) for each in said), ("another.json", b"2")]:
        store.put(KEYS.drivers + name, sign)
        before = everything(store)
        with pytest.raises(InputError, match="nothing was deleted") as refused:
            run(store, "a", "--yes")
        assert everything(store) == before
        path = store.root / "sweeps" / "a" / "drivers" / name
        assert f"{path} cannot be read" in str(refused.value)
        assert "delete that file" in str(refused.value)
        path.unlink()
    assert run(store, "a", "--yes") == 0
    assert everything(store) == {}


def test_a_killed_drivers_last_sign_is_watched_and_then_deleted(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole(store, "a")
    Heartbeat(store, "a").beat()
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    assert run(store, "a", "--yes") == 0
    assert sum(waited) > EVERY_S
    assert store.list("sweeps/") == []


def test_where_all_drivers_have_ended_nothing_is_waited_for(store: LocalStore) -> None:
    whole(store, "a")
    assert at_work(store, doomed(store, "a", EXPERIMENTS), lambda: pytest.fail("waits")) == {}


def test_a_copy_of_another_sweep_is_not_deleted(store: LocalStore) -> None:
    whole(store, "a")
    sweeps = store.root / "sweeps"
    shutil.copytree(sweeps / "a", sweeps / "b")
    before = everything(store)
    with pytest.raises(InputError, match="is the plan of the sweep a, not of b"):
        run(store, "b", "--yes")
    assert everything(store) == before


@pytest.mark.parametrize("name", ["b", "a+b"])
@pytest.mark.parametrize("inner", ["", "shards", "tables", "plan.json"])
def test_nothing_is_deleted_behind_a_link(store: LocalStore, name: str, inner: str) -> None:
    """The link is the sweep's folder, or stands in it, and leads into a sweep that has lost its
    plan, so that nothing in it says whose it is."""
    whole(store, "a")
    sweeps = store.root / "sweeps"
    plan = (sweeps / "a" / "plan.json").rename(store.root / "plan.json")
    link = sweeps / name / inner
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(plan if inner == "plan.json" else sweeps / "a" / inner)
    before = everything(store)
    with pytest.raises(
        InputError, match=f"{re.escape(str(link))} is a link to .*; remove the link"
    ):
        run(store, name, "--yes")
    assert everything(store) == before
    link.unlink()
    with pytest.raises(InputError, match="there is no sweep"):
        run(store, name, "--yes")
    assert everything(store).keys() == before.keys() - {str(link)}


def test_a_link_above_the_sweeps_is_the_users_own(store: LocalStore, tmp_path: Path) -> None:
    """A store may be reached through a link, for example to a larger disk."""
    whole(store, "a")
    (tmp_path / "link").symlink_to(store.root)
    assert run(LocalStore(tmp_path / "link"), "a", "--yes") == 0
    assert everything(store) == {}


def test_of_several_sweeps_nothing_but_tables_and_figures_is_deleted(store: LocalStore) -> None:
    """The folder of the joint tables is a copy of a whole sweep, for example by a wrong command."""
    whole(store, "a")
    sweeps = store.root / "sweeps"
    shutil.copytree(sweeps / "a", sweeps / "a+b")
    before = everything(store)
    assert run(store, "a+b", "--yes") == 0
    joint = {name for name in before if name.startswith(str(sweeps / "a+b"))}
    gone = {name for name in joint if Path(name).parent.name in ("tables", "report")}
    assert gone
    assert everything(store).keys() == before.keys() - gone


def test_what_a_killed_writer_has_left_of_a_file_goes_too(store: LocalStore) -> None:
    plan = whole(store, "a")
    folder = store.root / "sweeps" / "a" / "shards" / plan.shards[0].shard_id / "attempts" / "x"
    folder.mkdir(parents=True)
    (folder / f".{'0123456789abcdef' * 2}").write_bytes(SEAL)
    assert run(store, "a", "--yes") == 0
    assert not (store.root / "sweeps" / "a").exists()


def test_without_a_terminal_or_yes_nothing_is_deleted(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole(store, "a")
    before = everything(store)
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        with pytest.raises(InputError, match="--yes"):
            run(store, "a")
    assert everything(store) == before


@pytest.mark.parametrize(("answer", "code"), [("a", 0), ("b", 2), ("yes", 2)])
def test_on_a_terminal_the_sweeps_name_is_the_answer(
    store: LocalStore, answer: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole(store, "a")
    before = everything(store)
    terminal, ours = pty.openpty()
    with os.fdopen(terminal, "wb", 0) as typing, os.fdopen(ours) as stdin:
        typing.write(f"{answer}\n".encode())
        monkeypatch.setattr(sys, "stdin", stdin)
        done = called("--store", store.url, "--sweep", "a", module="jobs.delete")
    assert done.code == code, done
    assert everything(store) == ({} if code == 0 else before)
    assert done.stderr.count("\n") == (0 if code == 0 else 1)


@pytest.mark.parametrize("name", ["../b", "a/b", "", "+a"])
def test_a_name_that_could_be_another_folder_is_refused(store: LocalStore, name: str) -> None:
    whole(store, "a")
    with pytest.raises(InputError, match="sweep name"):
        run(store, name, "--yes")


def test_a_sweep_that_is_not_there_is_said(store: LocalStore) -> None:
    with pytest.raises(InputError, match="there is no sweep other"):
        run(store, "other", "--yes")


def test_a_sweep_whose_plan_is_damaged_can_be_deleted(
    store: LocalStore, capsys: pytest.CaptureFixture[str]
) -> None:
    whole(store, "a")
    store.put(SweepKeys("a").plan, b"{")
    assert run(store, "a", "--yes") == 0
    assert store.list("sweeps/") == []
    assert "its plan cannot be read" in capsys.readouterr().out
