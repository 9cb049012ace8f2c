"""Two collectors write the same tables, and two sweeps hold the same trials with other results."""

import io
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from builders import commit_all
from faults import KEYS, NAME, SHARDS, TRIALS, assert_nothing_lost, collected, commits, here
from meanwhile import Meanwhile, Moment
from rich.console import Console
from tables import RESULTS

from cluster.results.publish import publish
from cluster.sweeps.plan import Plan
from cluster.sweeps.stored import read_plan, store_plan
from jobs.experiments import EXPERIMENTS
from pcworker.store.local import LocalStore
from pcworker.store.parquet import from_parquet

pytestmark = pytest.mark.faults


@pytest.fixture
def copy(undisturbed: LocalStore, tmp_path: Path) -> LocalStore:
    """The undisturbed sweep, in a store of the test's own."""
    return LocalStore(shutil.copytree(undisturbed.root, tmp_path / "copy"))


def plan_of(store: LocalStore) -> Plan:
    plan = read_plan(store, NAME, EXPERIMENTS)
    assert plan is not None
    return plan


@pytest.mark.parametrize("moment", [("get", "weights.parquet"), ("put", "weights.parquet")])
def test_a_slow_collector_leaves_no_holes_in_the_tables_of_a_fast_one(
    copy: LocalStore, undisturbed: LocalStore, moment: Moment
) -> None:
    """The sweep ends, and is collected, while the slow one reads, or while it writes."""
    late = KEYS.commit(sorted(commits(copy))[-1])
    data = copy.get(late) or b""
    copy.delete(late)
    before = commits(copy)

    def finish() -> None:
        copy.put(late, data)
        publish(copy, [plan_of(copy)], Console(file=io.StringIO()), partial=False)
        assert_nothing_lost(copy, before, undisturbed)

    slow = Meanwhile(copy.root, moment, finish)
    publish(slow, [plan_of(copy)], Console(file=io.StringIO()), partial=True)
    assert_nothing_lost(copy, before, undisturbed)
    for name in RESULTS:
        said = from_parquet(copy.get(KEYS.table(name)) or b"").schema.metadata
        counts = (said[b"trials"], said[b"missing"], said[b"commits"])
        assert counts == (b"%d" % (SHARDS * TRIALS), b"0", b"%d" % SHARDS), name
    for file in ("figure3.png", "figure3.svg"):
        assert copy.get(KEYS.report(file)) == undisturbed.get(KEYS.report(file))


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
