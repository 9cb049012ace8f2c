"""Two sweeps hold the same trials with other results."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from builders import commit_all
from faults import NAME, SHARDS, TRIALS, assert_nothing_lost, collected, commits, here

from cluster.sweeps.plan import Plan, read_plan, store_plan
from jobs.experiments import EXPERIMENTS
from pcworker.store.local import LocalStore

pytestmark = pytest.mark.faults


@pytest.fixture
def copy(undisturbed: LocalStore, tmp_path: Path) -> LocalStore:
    """The undisturbed sweep, in a store of the test's own."""
    return LocalStore(shutil.copytree(undisturbed.root, tmp_path / "copy"))


def plan_of(store: LocalStore) -> Plan:
    plan = read_plan(store, NAME, EXPERIMENTS)
    assert plan is not None
    return plan


def test_another_sweep_with_other_results_is_named_and_the_exit_code_tells(
    copy: LocalStore, undisturbed: LocalStore
) -> None:
    """The other sweep's results are made up, as a broken machine makes them."""
    before = commits(copy)
    other = replace(plan_of(copy), name="other")
    store_plan(copy, other, {})
    commit_all(copy, other)
    done = here("jobs.collect", "--store", copy.url, "--sweep", f"other,{NAME}")
    assert (done.code, done.stderr) == (1, "")
    count = SHARDS * TRIALS
    assert f"{count} trials of several sweeps compared, {count} differ." in done.stdout
    lines = [line for line in done.stdout.splitlines() if line.startswith("trial ")]
    assert len(lines) == count
    assert all(f"sweep {NAME}, " in line and "sweep other, " in line for line in lines)
    alone = collected(copy)
    assert alone.code == 0, alone.stderr
    assert_nothing_lost(copy, before, undisturbed)
