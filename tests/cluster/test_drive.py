"""Tests of what a driver stores and prints, with its worker in this process."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dispatching import assignment, files, small_plan
from rich.console import Console

from cluster.driver.drive import drive
from cluster.driver.record.heartbeat import Heartbeat
from cluster.driver.record.signs import read_drivers
from cluster.driver.site import in_this_process
from cluster.nodes.resources import Resources
from cluster.results.reading import list_failures, read_failures
from cluster.sweeps.plan import Plan
from cluster.sweeps.stored import store_plan
from pcworker.errors import InputError, StoreError, UnavailableError
from pcworker.store.local import LocalStore

ONE_WORKER = Resources(workers=1, cpus=1, gpus=0, device="cpu")
PLAN = small_plan("784-16-10", "784-32-10")
FIRST, SECOND = PLAN.shards


def driven(
    store: LocalStore, act: Callable[..., None], *, terminal: bool = False
) -> tuple[Plan, int, str]:
    """Runs PLAN with an engine that calls `act` and then makes up its results. Returns the plan
    that was followed, the number of quarantined shards and the printed text."""
    text = io.StringIO()
    console = Console(file=text, width=1000, force_terminal=terminal, markup=False, highlight=False)
    plan, ending = drive(assignment(PLAN, store, act, ONE_WORKER), in_this_process(), console)
    return plan, len(ending.quarantined), text.getvalue()


def nothing(trials: Any, width: Any) -> None:
    pass


def fail(trials: Any, width: Any) -> None:
    raise ValueError("no such luck")


def test_a_driver_says_where_it_runs_and_ends_with_a_last_sign_of_life(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    plan, quarantined, text = driven(store, nothing)
    first, second, third, *events = text.splitlines()
    assert first == "Running in this process, without Ray: one shard at a time."
    assert second == "About a moment."
    assert " event=worker " in third
    assert "8 trials in 2 shards, 0 committed already" in events[0]
    assert [event.split()[1] for event in events[1:]] == ["event=committed"] * 2
    assert quarantined == 0
    assert plan.shards == PLAN.shards
    [driver] = read_drivers(store, PLAN.name)
    assert driver.ended


def test_every_failed_attempt_is_a_record_with_the_traceback_that_is_shown(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    plan, quarantined, text = driven(store, fail)
    assert quarantined == 2
    records, damaged = read_failures(store, list_failures(store, plan))
    assert damaged == []
    assert len(records) == 6
    assert [record.quarantined for record in records].count(True) == 2
    for record in records:
        assert record.error == "ValueError: no such luck"
        assert "in fail" in record.traceback
        assert record.traceback in text


def test_an_interrupted_driver_gives_a_last_sign_of_life(tmp_path: Path) -> None:
    def interrupt(trials: Any, width: Any) -> None:
        raise KeyboardInterrupt

    store = LocalStore(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        driven(store, interrupt)
    [driver] = read_drivers(store, PLAN.name)
    assert driver.ended


def test_beside_another_driver_it_begins_at_the_other_end(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    Heartbeat(store, PLAN.name).beat()
    order: list[str] = []
    _, _, text = driven(store, lambda trials, width: order.append(trials[0].trial_id))
    assert order == [SECOND.trials[0].trial_id, FIRST.trials[0].trial_id]
    assert "Another driver seems alive" in text


def test_what_another_driver_has_committed_is_not_run_again(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    driven(store, nothing)
    assert "2 committed already" in driven(store, fail)[2]


def test_the_plan_that_is_stored_is_followed(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    stored = replace(PLAN, shards=PLAN.shards[::-1])
    store_plan(store, stored, {})
    assert driven(store, nothing)[0].shards == stored.shards


def test_checkpoints_of_committed_shards_are_tidied_away(tmp_path: Path) -> None:
    """A worker that is killed after its commit may leave a checkpoint of the committed shard."""
    store = LocalStore(tmp_path)

    def fail_the_second(trials: Any, width: Any) -> None:
        for shard in PLAN.shards:
            store.put(PLAN.keys.checkpoint(shard.shard_id, "killed", 1), b"")
        if trials == SECOND.trials:
            raise ValueError

    driven(store, fail_the_second)
    checkpoints = [key for key in store.list(PLAN.keys.shards) if "/checkpoint-" in key]
    assert checkpoints == [PLAN.keys.checkpoint(SECOND.shard_id, "killed", 1)]


def test_a_store_that_stays_in_trouble_ends_the_driver(tmp_path: Path) -> None:
    class Broken(LocalStore):
        trouble = False

        def check(self) -> None:
            if self.trouble:
                raise StoreError("it can no longer be written")

    store = Broken(tmp_path)

    def lose(trials: Any, width: Any) -> None:
        store.trouble = True
        raise UnavailableError("it does not answer")

    # The driver's clerk says it, or the next worker, whoever is first.
    with pytest.raises((StoreError, InputError), match="it can no longer be written"):
        driven(store, lose)


def test_on_a_terminal_nothing_moves_beside_a_debugger(tmp_path: Path) -> None:
    _, _, text = driven(LocalStore(tmp_path), nothing, terminal=True)
    assert "event=committed" in text
    assert "ETA" not in text
    assert "\x1b[?25l" not in text  # a bar would hide the cursor


def test_the_command_and_the_sources_are_stored_with_the_plan(tmp_path: Path) -> None:
    driven(LocalStore(tmp_path), nothing)
    assert files(tmp_path).count("plan.json") == 1
    plan = json.loads((tmp_path / PLAN.keys.plan).read_bytes())
    assert plan["provenance"]["command"][0] == "python"
    assert len(plan["provenance"]["code_sha256"]) == 64
