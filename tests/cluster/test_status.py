"""Tests of a sweep's status, which is read from its store alone (see `builders`)."""

import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from builders import (
    Counting,
    ablation,
    commit,
    commit_all,
    failure,
    record_failure,
    rewrite,
    shard_result,
    split_plan,
)
from rich.console import Console
from running import PATIENCE_S, ROOT

from cluster.driver.events import AtWork, WorkerInfo
from cluster.driver.record.signs import ALIVE_S, EVERY_S, WATCH_S, Driver
from cluster.results.reading import read_commits
from cluster.status.lookout import Lookout
from cluster.status.status import (
    DoneShard,
    Drivers,
    Machine,
    RunningShard,
    Status,
    StoredSweep,
    status_of,
)
from cluster.status.view import StatusView
from cluster.sweeps.plan import Plan, Shard, make_plan
from cluster.sweeps.stored import first_command, store_plan
from jobs.mnist_ablation.cost import shard_seconds
from jobs.mnist_ablation.experiment import ABLATION
from jobs.options import Terminal
from jobs.status import command
from pcworker.store.keys import SweepKeys
from pcworker.store.local import LocalStore

NOW = 1e9
KEYS = SweepKeys("a")
COMMAND = ["python", "-m", "jobs.mnist_ablation", "--networks", "784-2-10,784-4-10"]


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def plan(store: LocalStore) -> Plan:
    """A stored plan of six shards."""
    sweep = ablation(networks=["784-2-10", "784-4-10", "784-8-10"])
    made = store_plan(store, split_plan(sweep, "a"), {"command": COMMAND})
    assert len(made.shards) == 6
    return made


def ids(shards: Sequence[Shard]) -> list[str]:
    return [shard.shard_id for shard in shards]


def cost(shard: Shard) -> float:
    return shard_seconds(shard.trials)


def worker(hostname: str = "node", device: str = "cpu") -> WorkerInfo:
    return WorkerInfo(hostname, 1, "n", device)


def driver(running: dict[str, float], workers: int = 1, **changes: Any) -> Driver:
    """A living driver that started before everything else."""
    at_work = {shard_id: AtWork(share, "node") for shard_id, share in running.items()}
    made = Driver("head", NOW, False, (worker(),) * workers, at_work, started=0.0)
    return replace(made, **changes)


def beat(store: LocalStore, running: dict[str, float], **changes: Any) -> None:
    """Stores the sign of life of a driver that is alive now and has one worker."""
    workers = [{"hostname": "node", "pid": 1, "node_id": "n", "device": "cpu"}]
    sign = {"hostname": "head", "time": time.time(), "ended": False, "workers": workers}
    at_work = {
        shard_id: {"share": share, "hostname": "node"} for shard_id, share in running.items()
    }
    whole = sign | {"running": at_work, "started": 0.0} | changes
    store.put(KEYS.driver("d"), json.dumps(whole).encode())


def commits_of(
    store: LocalStore, plan: Plan, shards: Sequence[Shard], **changes: Any
) -> dict[str, DoneShard]:
    """Commits the shards. Returns what the status needs of all commits, by shard id, with these
    values changed."""
    for shard in shards:
        commit(store, plan, shard)
    made = read_commits(store, plan)
    return {name: replace(DoneShard.of(found), **changes) for name, found in made.items()}


def stands(plan: Plan, **found: Any) -> Status:
    nothing: dict[str, Any] = {
        "commits": {}, "damaged_shards": frozenset(), "damaged": (), "failures": (), "drivers": (),
    }  # fmt: skip
    return status_of(plan, StoredSweep(**nothing | found), NOW)


# The states of shards


def test_a_shard_is_in_one_state_and_the_strongest_evidence_wins(
    store: LocalStore, plan: Plan
) -> None:
    """Oracle: by hand. A commit is stronger evidence than a driver, and a driver than a failure."""
    done, damaged, running, failed, retried, missing = plan.shards
    status = stands(
        plan,
        commits=commits_of(store, plan, [done]),
        damaged_shards=frozenset([damaged.shard_id]),
        failures=[
            *(failure(shard) for shard in (done, damaged, running, failed)),
            failure(retried, quarantined=False),
        ],
        drivers=[driver(dict.fromkeys(ids([done, damaged, running]), 0.5))],
    )
    assert [status.states[id] for id in ids(plan.shards)] == [
        "done", "damaged", "running", "failed", "missing", "missing",
    ]  # fmt: skip
    assert status.running == (RunningShard(running.shard_id, 0.5, "node"),)
    assert (status.count("missing"), status.done, status.broken) == (2, False, True)
    assert missing.shard_id not in {at_work.shard_id for at_work in status.running}


def test_what_was_quarantined_before_a_living_driver_began_is_tried_again(plan: Plan) -> None:
    shard, *_ = plan.shards
    failures = [failure(shard, time="2020-01-01T00:00:10+00:00")]
    at = datetime.fromisoformat("2020-01-01T00:00:10+00:00").timestamp()
    for started, state in ((at - 1, "failed"), (at, "failed"), (at + 1, "missing")):
        status = stands(plan, failures=failures, drivers=[driver({}, started=started)])
        assert status.states[shard.shard_id] == state
    assert stands(plan, failures=failures).states[shard.shard_id] == "failed"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Drivers(("head",), 0, 0)),
        ({"ended": True}, Drivers((), 1, 0)),
        ({"time": NOW - 2 * ALIVE_S}, Drivers((), 0, 1)),
        ({"time": NOW - 2 * ALIVE_S, "ended": True}, Drivers((), 1, 0)),
    ],
    ids=["alive", "ended", "silent", "ended-long-ago"],
)
def test_only_a_living_driver_has_shards_and_workers(
    plan: Plan, changes: dict[str, Any], expected: Drivers
) -> None:
    shard_id = plan.shards[0].shard_id
    status = stands(plan, drivers=[driver({shard_id: 0.5}, **changes)])
    assert status.drivers == expected
    assert status.count("running") == len(status.machines) == len(expected.alive)


@pytest.mark.parametrize("alive", [True, False])
def test_a_sweep_is_over_when_nothing_is_left_to_wait_for(
    store: LocalStore, plan: Plan, alive: bool
) -> None:
    """Where no driver is alive, nobody runs the missing shard, nor tries the failed one again."""
    *rest, last = plan.shards
    drivers = [driver({})] if alive else []
    commits = commits_of(store, plan, rest)
    assert stands(plan, commits=commits, drivers=drivers).over == (not alive)
    failed = stands(plan, commits=commits, drivers=drivers, failures=[failure(last)])
    assert (failed.over, failed.broken) == (not alive, True)
    whole = stands(plan, commits=commits_of(store, plan, [last]), drivers=drivers)
    assert (whole.over, whole.done, whole.broken) == (True, True, False)


# How fast


def test_throughput_is_a_workers_pace_times_the_workers_that_have_a_shard(
    store: LocalStore, plan: Plan
) -> None:
    """Oracle: 2 commits of 3000 updates in 10 s are 300 per second and worker. 3 workers run."""
    commits = commits_of(store, plan, plan.shards[:2], updates=3000, wall_seconds=10.0)
    one, other = driver(dict.fromkeys(ids(plan.shards[2:4]), 0.1)), driver({ids(plan.shards)[4]: 0})
    status = stands(plan, commits=commits, drivers=[one, other])
    assert status.updates_per_second == 900
    assert stands(plan, commits=commits).updates_per_second is None
    assert stands(plan, drivers=[one]).updates_per_second is None


def test_before_the_first_commit_the_eta_is_the_cost_tables(plan: Plan) -> None:
    """Oracle: the costs that are left, divided by two workers."""
    first, second, *rest = plan.shards
    status = stands(plan, drivers=[driver({first.shard_id: 0.75, second.shard_id: 0.5}, 2)])
    left = cost(first) / 4 + cost(second) / 2 + sum(map(cost, rest))
    assert status.eta_seconds == pytest.approx(left / 2, rel=1e-12)
    assert not status.calibrated


def test_a_worker_with_several_places_is_as_fast_as_so_many_workers(plan: Plan) -> None:
    several = replace(driver({}), workers=(replace(worker(), places=2),))
    assert stands(plan, drivers=[several]).eta_seconds == pytest.approx(
        stands(plan, drivers=[driver({}, 2)]).eta_seconds, rel=1e-12
    )


def test_commits_that_took_twice_their_cost_double_the_eta(store: LocalStore, plan: Plan) -> None:
    first, *rest = plan.shards
    commits = commits_of(store, plan, [first], wall_seconds=2 * cost(first))
    status = stands(plan, commits=commits, drivers=[driver({})])
    assert status.eta_seconds == pytest.approx(2 * sum(map(cost, rest)), rel=1e-12)
    assert status.calibrated


def test_more_workers_than_shards_do_not_make_the_last_shard_faster(plan: Plan) -> None:
    longest = max(map(cost, plan.shards))
    assert stands(plan, drivers=[driver({}, 1000)]).eta_seconds == pytest.approx(longest, rel=1e-12)


def test_what_nobody_will_run_is_not_waited_for(store: LocalStore, plan: Plan) -> None:
    failed, damaged, *rest = plan.shards
    status = stands(
        plan,
        failures=[failure(failed)],
        damaged_shards=frozenset([damaged.shard_id]),
        drivers=[driver({})],
    )
    assert status.eta_seconds == pytest.approx(sum(map(cost, rest)), rel=1e-12)
    assert stands(plan).eta_seconds is None
    commits = commits_of(store, plan, plan.shards)
    assert stands(plan, commits=commits, drivers=[driver({})]).eta_seconds is None


def test_machines_are_those_of_living_drivers_and_those_of_commits(
    store: LocalStore, plan: Plan
) -> None:
    for shard, host in zip(plan.shards, ("one", "two", "one"), strict=False):
        commit(store, plan, shard, hostname=host, device="cpu")
    workers = (worker("two"), worker("two"), worker("two", "gpu"))
    alive = replace(driver({}), workers=workers)
    status = stands(plan, commits=commits_of(store, plan, []), drivers=[alive])
    assert status.machines == (
        Machine("one", "cpu", workers=0, committed=2),
        Machine("two", "cpu", workers=2, committed=1),
        Machine("two", "gpu", workers=1, committed=0),
    )


# What went wrong


def test_failed_attempts_are_counted_by_kind_and_the_first_is_told(plan: Plan) -> None:
    one, other, *_ = plan.shards
    rows = [
        failure(one, attempt_id="late", quarantined=False, time="2020-01-02T00:00:00+00:00"),
        failure(other, attempt_id="early", quarantined=False, error="the first"),
        failure(one, attempt_id="lost", quarantined=False, kind="lost", time="2021"),
    ]
    status = stands(plan, failures=rows)
    assert status.failures == {"error": 2, "lost": 1}
    assert status.first_error is not None
    assert status.first_error.error == "the first"
    assert status.first_error.key == KEYS.failure(other.shard_id, "early")


def test_the_error_of_a_shard_that_has_failed_comes_before_those_that_were_mended(
    plan: Plan,
) -> None:
    one, other, *_ = plan.shards
    rows = [failure(one, quarantined=False, time="2019"), failure(other, time="2020")]
    status = stands(plan, failures=rows)
    assert status.first_error is not None
    assert status.first_error.shard_id == other.shard_id
    assert stands(plan).first_error is None


# Looking at a store


def test_what_is_damaged_is_named_and_the_rest_is_counted(store: LocalStore, plan: Plan) -> None:
    commit_all(store, plan)
    truncated, foreign = plan.shards[0], plan.shards[1]
    store.put(KEYS.commit(truncated.shard_id), b"{")
    rewrite(store, KEYS.commit(foreign.shard_id), lambda body: body | {"trial_ids": []})
    record_failure(store, plan, plan.shards[2], attempt_id="good")
    bad = KEYS.failure(plan.shards[2].shard_id, "bad")
    store.put(bad, b"[]")
    status = Lookout(store, plan).status()
    assert (status.count("done"), status.count("damaged")) == (4, 2)
    assert status.failures == {"error": 1}
    named = [KEYS.commit(truncated.shard_id), KEYS.commit(foreign.shard_id), bad]
    assert len(status.damaged) == 3
    for key, line in zip(named, status.damaged, strict=True):
        assert store.describe(key) in line


def test_what_does_not_change_is_read_once(store: LocalStore, plan: Plan) -> None:
    counting = Counting(store.root)
    lookout = Lookout(counting, plan)
    failed = record_failure(store, plan, plan.shards[5])
    commit(store, plan, plan.shards[0])
    first = [KEYS.commit(plan.shards[0].shard_id), failed]
    assert lookout.status().count("done") == 1
    assert sorted(counting.read) == sorted(first)
    commit(store, plan, plan.shards[1])
    assert lookout.status().count("done") == 2
    assert counting.read[2:] == [KEYS.commit(plan.shards[1].shard_id)]
    assert lookout.status().failures == {"error": 1}
    assert len(counting.read) == 3


def test_a_commit_that_is_deleted_is_missed_and_one_that_is_mended_is_seen(
    store: LocalStore, plan: Plan
) -> None:
    lookout = Lookout(store, plan)
    commit_all(store, plan)
    one, other = (KEYS.commit(shard_id) for shard_id in ids(plan.shards)[:2])
    whole = store.get(other) or b""
    store.put(other, whole[:-1])
    assert (lookout.status().count("done"), lookout.status().count("damaged")) == (5, 1)
    store.put(other, whole)
    store.delete(one)
    status = lookout.status()
    assert (status.count("done"), status.count("missing"), status.damaged) == (5, 1, ())


def test_the_command_is_the_one_of_the_first_submission(store: LocalStore, plan: Plan) -> None:
    assert first_command(store, "a") == " ".join(COMMAND)
    sweep = ablation(rules=["BP"])
    store_plan(store, make_plan(ABLATION, sweep, "older"), {"argv": ["--sweep", "a b"]})
    assert first_command(store, "older") == "python -m jobs.mnist_ablation --sweep 'a b'"
    store_plan(store, make_plan(ABLATION, sweep, "unknown"), {})
    assert first_command(store, "unknown") is None


# What is shown


def followed(store: LocalStore, plan: Plan, terminal: bool) -> str:
    """The text that is printed while five shards are committed and the last one fails."""
    sink = io.StringIO()
    console = Console(file=sink, width=80, force_terminal=terminal, height=60)
    *rest, last = plan.shards
    waiting = list(rest)

    def wait() -> None:
        """Commits the next shard. After the fifth, the last one fails and the driver ends."""
        if waiting:
            commit(store, plan, waiting.pop(0))
        else:
            record_failure(store, plan, last)
            beat(store, {}, ended=True)

    beat(store, {last.shard_id: 0.5})
    view = StatusView(console, store, "AGAIN", "COLLECT")
    status = view.follow(Lookout(store, plan).status, wait)
    assert (status.count("done"), status.count("failed"), status.over) == (5, 1, True)
    return sink.getvalue()


def test_without_a_terminal_there_is_a_line_per_change(store: LocalStore, plan: Plan) -> None:
    lines = followed(store, plan, terminal=False).splitlines()
    counts = [line.split(" done")[0] for line in lines if " alive, " in line and "worker" in line]
    assert counts == [f"{done}/6" for done in range(6)]
    assert any(line.startswith("  Shards") and "5/6 done, 0 running, 1 failed" in line
               for line in lines)  # fmt: skip
    assert lines[-1] == "  AGAIN"


def test_on_a_terminal_the_last_picture_stays(store: LocalStore, plan: Plan) -> None:
    text = followed(store, plan, terminal=True)
    last = text[text.rindex("Sweep a:") :]
    for part in ("5/6 done", "1 failed", "ValueError: no", "No driver is alive", "AGAIN"):
        assert part in last
    assert "COLLECT" not in text


def test_nothing_is_shown_while_nothing_changes(store: LocalStore, plan: Plan) -> None:
    commit_all(store, plan)
    whole, readings = Lookout(store, plan).status(), []
    missing = replace(
        whole,
        states=whole.states | {plan.shards[0].shard_id: "missing"},
        drivers=Drivers(("head",), 0, 0),
    )

    def read() -> Status:
        readings.append(1)
        return missing if len(readings) < 4 else whole

    sink = io.StringIO()
    StatusView(Console(file=sink, width=80), store, None, "COLLECT").follow(read, lambda: None)
    assert sink.getvalue().count("5/6 done") == 1


def test_a_driver_whose_clock_is_off_is_alive_if_its_sign_changes(
    store: LocalStore, plan: Plan
) -> None:
    """Oracle: by hand. The clock of the driver's machine is ten minutes behind ours."""
    told, pauses, said = time.time() - 600, [], list[str]()

    def pause() -> None:
        pauses.append(1)
        if len(pauses) == 3:
            beat(store, {plan.shards[0].shard_id: 0.5}, time=told + 10)

    beat(store, {plan.shards[0].shard_id: 0.25}, time=told)
    lookout = Lookout(store, plan)
    status = lookout.sure(pause, said.append)
    assert (len(pauses), len(said)) == (3, 1)
    assert status.drivers == Drivers(("head",), 0, 0)
    assert status.running == (RunningShard(plan.shards[0].shard_id, 0.5, "node"),)
    assert lookout.sure(pause, said.append).drivers.alive
    assert len(pauses) == 3


def test_a_driver_that_stays_silent_is_watched_once_as_long_as_it_takes(
    store: LocalStore, plan: Plan
) -> None:
    pauses: list[int] = []
    beat(store, {}, time=time.time() - 600)
    status = Lookout(store, plan).sure(lambda: pauses.append(1), lambda text: None)
    assert status.drivers == Drivers((), 0, 1)
    assert len(pauses) == WATCH_S > EVERY_S


def test_where_nothing_can_come_nothing_is_watched(store: LocalStore, plan: Plan) -> None:
    beat(store, {}, time=time.time() - 600, ended=True)
    assert Lookout(store, plan).sure(pytest.fail, pytest.fail).drivers.ended == 1
    beat(store, {}, time=time.time() - 600)
    commit_all(store, plan)
    assert Lookout(store, plan).sure(pytest.fail, pytest.fail).done


def test_what_others_wrote_moves_no_cursor_and_makes_no_line(store: LocalStore, plan: Plan) -> None:
    """Escape sequences and ends of lines are in an error, in a kind, and in names of hosts."""
    evil = "\x1b]0;title\x07\x1b[2Jgone\r\x9b31mred\u202e\nerror: forged"
    record_failure(store, plan, plan.shards[0], error=evil, kind=evil)
    commit(store, plan, plan.shards[1], device=evil)
    beat(store, {plan.shards[2].shard_id: 0.5}, hostname=evil)
    sink = io.StringIO()
    StatusView(Terminal(file=sink, width=500), store, None, "").show(Lookout(store, plan).status())
    text = sink.getvalue()
    assert text.count("gonered error: forged") == 5
    assert all(char.isprintable() or char == "\n" for char in text)
    assert "title" not in text
    assert not any(line.startswith("error:") for line in text.splitlines())


# The command


def bar(share: float) -> str:
    return "━" * int(30 * share) + "─" * (30 - int(30 * share))


def asked(*options: str) -> int:
    code: int = command(["--sweep", "a", *options], standalone_mode=False)
    return code


def test_a_running_sweep_is_shown_with_all_that_is_known(
    store: LocalStore, plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    done, running, *_ = plan.shards
    told = replace(shard_result(done.trials), wall_seconds=10.0)
    commit(store, plan, done, result=told, hostname="node-7", device="gpu")
    beat(store, {running.shard_id: 0.25})
    assert asked("--store", store.url) == 0
    text = " ".join(capsys.readouterr().out.split())
    costs = [plan.seconds[shard.shard_id] for shard in plan.shards]
    share = (costs[0] + 0.25 * costs[1]) / sum(costs)
    for part in (
        "Sweep a: 24 trials in 6 shards",
        "1/6 done, 1 running, 0 failed, 4 missing",
        "0 failed",
        f"Updates {10 * len(done.trials)} per second",
        "ETA about",
        "with 1 worker",
        "1 alive (on head), 0 ended, 0 silent",
        f"{running.shard_id} ━━━━━─────────────── 25% node",
        f"Progress {bar(share)} {share:.0%} in ",
        "node-7 gpu 0 1",
        "node cpu 1 0",
    ):
        assert part in text
    assert "cost table" not in text
    assert "type the command again" not in text


def test_without_a_driver_the_command_to_type_is_shown(
    store: LocalStore, plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked("--store", store.url) == 0
    text = capsys.readouterr().out
    assert "No driver is alive: type the command again." in text
    assert f"\n  {' '.join(COMMAND)}\n" in text
    assert "-\n" in text  # the throughput is not known


def test_before_the_first_commit_the_eta_says_what_it_goes_by(
    store: LocalStore, plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    beat(store, {})
    assert asked("--store", store.url) == 0
    assert "by the cost table alone: nothing is committed yet" in capsys.readouterr().out


def test_a_failed_shard_is_exit_code_1_with_its_error_and_where_its_traceback_is(
    store: LocalStore, plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    key = record_failure(store, plan, plan.shards[0])
    assert asked("--store", store.url) == 1
    text = capsys.readouterr().out
    assert f"First error: shard {plan.shards[0].shard_id} (error): ValueError: no\n" in text
    assert f"its traceback: {store.describe(key)}\n" in text


def test_watching_ends_when_no_driver_is_alive(
    store: LocalStore, plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked("--store", store.url, "--watch") == 0
    assert "No driver is alive: type the command again." in capsys.readouterr().out


@pytest.mark.parametrize("watch", [[], ["--watch"]], ids=["once", "watch"])
def test_a_finished_sweep_is_exit_code_0_and_says_how_to_collect_it(
    store: LocalStore, plan: Plan, watch: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    commit_all(store, plan)
    assert asked("--store", store.url, *watch) == 0
    text = capsys.readouterr().out
    assert "6/6 done" in text
    assert text.endswith(f"\n  python -m jobs.collect --store {store.url} --sweep a\n")


def started(store: LocalStore, **streams: Any) -> subprocess.Popen[bytes]:
    arguments = ["--store", store.url, "--sweep", "a", "--watch"]
    environment = {**os.environ, "COLUMNS": "80", "TERM": "xterm"}
    return subprocess.Popen(
        [sys.executable, "-m", "jobs.status", *arguments], cwd=ROOT, env=environment, **streams
    )


def test_watching_ends_with_ctrl_c(store: LocalStore, plan: Plan) -> None:
    beat(store, {})
    with started(store, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        assert b"0/6 done" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, rest) == (130, b"")


def test_watching_on_a_terminal_leaves_the_cursor_as_it_was(store: LocalStore, plan: Plan) -> None:
    beat(store, {})
    ours, theirs = pty.openpty()
    with started(store, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        text = b""
        while b"1 alive" not in text:
            text += os.read(ours, 10_000)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=PATIENCE_S) == 130
    with suppress(OSError):  # Linux raises it when the other end is closed
        while data := os.read(ours, 10_000):
            text += data
    os.close(ours)
    assert text.rindex(b"\x1b[?25h") > text.rindex(b"\x1b[?25l")
    assert b"Traceback (most" not in text
