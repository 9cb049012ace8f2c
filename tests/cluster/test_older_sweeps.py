"""Sweeps that an older engine wrote are read as they were, and never mixed or continued.

The stores are those that commits 56bd024 and 8b19ee6 wrote, and the oracle is what they made of
them: see the README file of `tests/data`. A sweep of today's engine goes on, whatever version began
it.
"""

import json
import tarfile
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from command_lines import ROOT, called, files, refusal

ARCHIVE = ROOT / "tests" / "data" / "written_by_56bd024.tar.gz"
WITH_WHOLE_PLAN = ROOT / "tests" / "data" / "written_by_8b19ee6.tar.gz"
SAME_TRIALS = (
    *("--networks", "784-2-10,784-2-2-10", "--rules", "BP,IL,Z-IL", "--t", "l,2"),
    *("--gamma", "1", "--sigma", "0", "--epochs", "3"),
)
"""The options with which `interrupted` was submitted."""


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A folder with the store and what is expected of it."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def collect(written: Path, sweep: str, *options: str) -> Any:
    where = ("--store", str(written / "store"), "--sweep", sweep)
    return called(*where, *options, module="jobs.collect")


@pytest.mark.parametrize("sweep", ["finished", "interrupted", "detection"])
def test_its_tables_are_those_that_its_own_collector_made(written: Path, sweep: str) -> None:
    done = collect(written, sweep, *(["--partial"] if sweep == "interrupted" else []))
    assert (done.code, done.stderr) == (0, "")
    # That collector said "1 seed(s)" for what is "1 seed" today.
    said = (written / f"expected/{sweep}.txt").read_text().replace("1 seed(s)", "1 seed")
    assert done.stdout.startswith(said)
    assert f"Report: {written}/store/sweeps/{sweep}/report/index.html\n" in done.stdout
    expected = json.loads((written / f"expected/{sweep}.json").read_text())
    for name, table in expected.items():
        found = pq.read_table(written / f"store/sweeps/{sweep}/tables/{name}.parquet")
        rows = [list(row.values()) for row in found.select(table["columns"]).to_pylist()]
        assert rows == table["rows"]
        added = {"sums"} if name != "epochs" else set()
        assert added <= set(found.column_names)
        assert all(row["sums"] == "library" for row in found.to_pylist() if added)


def test_it_can_be_queried_and_its_status_shown_and_it_can_be_deleted(written: Path) -> None:
    assert collect(written, "finished").code == 0
    table = written / "store/sweeps/finished/tables/divergence.parquet"
    query = f"SELECT DISTINCT sums FROM '{table}' WHERE exact"
    assert duckdb.sql(query).fetchall() == [("library",)]
    where = ("--store", str(written / "store"), "--sweep", "finished")
    status = called(*where, module="jobs.status")
    assert (status.code, status.stderr) == (0, "")
    assert called(*where, "--yes", module="jobs.delete").code == 0
    assert not files(written / "store/sweeps/finished")


def test_a_sweep_that_was_not_finished_is_shown_without_a_command_that_would_be_refused(
    written: Path,
) -> None:
    where = ("--store", str(written / "store"), "--sweep", "interrupted")
    status = called(*where, module="jobs.status")
    assert "cannot be continued. Next:" in status.stdout
    assert "jobs.collect" in status.stdout and "--partial" in status.stdout
    assert "jobs.mnist_ablation" not in status.stdout
    line = refusal(*where, module="jobs.collect")
    assert "3 trials have no result, and the sweep is of an older engine" in line


def test_it_is_not_continued(written: Path) -> None:
    before = {path: path.read_bytes() for path in files(written)}
    where = ("--store", str(written / "store"), "--sweep", "interrupted", "--local-debug")
    line = refusal(*where, *SAME_TRIALS)
    assert "sweep interrupted is of engine 1, and this is engine 2" in line
    assert "can be collected, queried and deleted, but not continued; choose another" in line
    assert {path: path.read_bytes() for path in files(written)} == before


def test_it_is_not_mixed_with_a_sweep_of_today(written: Path) -> None:
    where = ("--store", str(written / "store"), "--sweep", "today", "--local-debug")
    small = ("--networks", "784-2-10", "--rules", "BP", "--no-preflight")
    assert called(*where, *small).code == 0
    line = refusal(
        *("--store", str(written / "store"), "--sweep", "finished,today"), module="jobs.collect"
    )
    assert "finished (of engine 1) and today (of engine 2) have different numbers" in line


def test_a_sweep_that_a_version_before_columns_has_begun_goes_on(tmp_path: Path) -> None:
    """One of its two shards is committed. Oracle: the results of the other one then."""
    with tarfile.open(WITH_WHOLE_PLAN) as archive:
        archive.extractall(tmp_path, filter="data")
    store, folder = tmp_path / "store", tmp_path / "store/sweeps/half-done"
    before = {path: path.read_bytes() for path in files(folder) if path.parent.name != "drivers"}
    status = called("--store", str(store), "--sweep", "half-done", module="jobs.status")
    assert "6 trials in 2 shards" in status.stdout and "1/2 done" in status.stdout
    options = [*SAME_TRIALS[:-1], "1"]  # of one epoch
    done = called("--store", str(store), "--sweep", "half-done", *options, "--local-debug")
    assert (done.code, done.stderr) == (0, "")
    assert "6 trials in 2 shards, 1 committed already" in done.stdout
    assert {path: path.read_bytes() for path in before} == before
    assert not list(folder.glob("plan-*"))
    expected = json.loads((tmp_path / "expected/last_commit.json").read_text())
    made = json.loads((folder / f"shards/{expected['shard_id']}/commit.json").read_text())
    for name in ("trial_ids", "result_digest", "twins"):
        assert made[name] == expected[name]


@pytest.mark.parametrize("sweep", ["finished", "interrupted", "detection"])
def test_it_can_be_exported_and_restored_and_is_the_same(written: Path, sweep: str) -> None:
    there, archive = str(written / "store"), str(written / "archive.zip")
    done = called("--store", there, "--sweep", sweep, "--to", archive, module="jobs.export")
    assert (done.code, done.stderr) == (0, "")
    other = str(written / "other")
    assert called(archive, "--store", other, module="jobs.restore").code == 0
    two = ("--store", there, "--other-store", other)
    done = called(sweep, sweep, *two, module="jobs.compare")
    assert done.code == (1 if sweep == "interrupted" else 0), done.stdout
    assert " 0 different" in done.stdout
