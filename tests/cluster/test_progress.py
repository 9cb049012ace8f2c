"""Without a terminal, a driver writes one line of fields for every event."""

import io
import re

from builders import tiny
from rich.console import Console

from cluster.driver.events import (
    AtWork,
    Failed,
    Finished,
    Joined,
    Running,
    Suspended,
    Trouble,
    Waiting,
    WorkerInfo,
)
from cluster.driver.progress import SweepProgress
from cluster.sweeps.plan import Shard
from pcworker.trials.trial import Trial

WORKER = WorkerInfo("host", 7, "node", "cpu: a processor")
A, B = (Shard(name, (Trial(tiny(), 1),)) for name in "ab")


def lines(*events: object, **options: bool) -> list[str]:
    text = io.StringIO()
    console, costs = Console(file=text, width=1000), {"a": 1.0, "b": 3.0}
    with SweepProgress(console, costs, set(), **options) as progress:
        for event in events:
            progress.hear(event)  # type: ignore[arg-type]
    return text.getvalue().splitlines()


def fields(line: str) -> dict[str, str]:
    time, *_ = line.split(" ", 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", time)
    return dict(re.findall(r'(\w+)=("[^"]*"|\S+)', line))


def test_every_event_is_a_line_of_fields() -> None:
    joined, failed, halted, done, again, trouble = lines(
        Joined(WORKER),
        Failed(A, "x", "error", "ValueError: a = b", "Traceback", False, WORKER),
        Suspended(A, WORKER, 1 + 2 / 3),
        Finished(A, "committed", 1.26, WORKER, 3.0),
        Finished(A, "committed", 1.26, WORKER, 1 + 2 / 3),
        Trouble("beware"),
    )
    assert fields(joined) == {
        "event": "worker",
        "worker": "host",
        "device": '"cpu: a processor"',
        "pid": "7",
    }
    assert fields(failed) == {
        "event": "failed",
        "shard": "a",
        "kind": "error",
        "error": '"ValueError: a = b"',
        "worker": "host",
        "quarantined": "False",
    }
    assert fields(halted) == {
        "event": "halted",
        "shard": "a",
        "worker": "host",
        "reached": "1.667",
    }
    assert fields(again)["resumed_from"] == "1.667"
    assert fields(done) == {
        "event": "committed",
        "shard": "a",
        "seconds": "1.3",
        "worker": "host",
        "resumed_from": "3",
        "done": "1/2",
        "failures": "1",
    }
    assert fields(trouble) == {"event": "trouble", "message": "beware"}


def test_it_is_said_for_which_workers_there_is_no_room_and_how_long_they_are_waited_for() -> None:
    words = "waiting for 6 more workers of 2 CPU cores: the cluster has room for 2 now"
    some, none = lines(Waiting(6, "2 CPU cores", 2, 1800.0), Waiting(1, "1 GPU", 0, 1800.0))
    assert fields(some) == {
        "event": "waiting",
        "message": f'"{words}"',
    }
    assert fields(none)["message"].endswith('room for 0 now; the sweep waits for 30 minutes"')


def test_what_all_workers_say_is_told_once() -> None:
    told = [fields(line) for line in lines(*[Joined(WORKER, "CC is wrong")] * 3)]
    assert [line["event"] for line in told] == ["worker", "trouble", "worker", "worker"]
    assert told[1]["message"] == '"host: CC is wrong"'


def test_the_traceback_of_a_failure_is_shown_to_who_debugs() -> None:
    failed = Failed(A, "x", "error", "ValueError: no", "Traceback\n  line 7\n", False, WORKER)
    assert [line.split()[1] for line in lines(failed)] == ["event=failed"]
    assert lines(failed, debug=True)[1:3] == ["Traceback", "  line 7"]


def test_progress_is_not_a_line_every_half_second() -> None:
    assert lines(*[Running({"a": AtWork(0.5, "host")}, (WORKER,))] * 100) == []


def test_other_results_than_those_committed_are_said_in_words() -> None:
    [line] = lines(Finished(B, "differs", 1.0, WORKER))
    assert "event=differs" in line
    assert "does not repeat itself bit for bit" in line
