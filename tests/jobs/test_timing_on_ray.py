"""Tests of the timing runs as researchers start them: by command, on a real Ray, with image files.

The shapes are small, but the code is the same as at full size. One sweep runs, and the tests look
at its results.
"""

from pathlib import Path

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest
from command_lines import Ended, called, refusal, started
from image_directory import directory

TIMING = "jobs.imagenet_timing"
SMALL = (
    *("--networks", "small-conv", "--updates", "10", "--block", "2", "--t", "5,10"),
    *("--schedules", "layerwise"),
    # On a busy machine of two cores, two threads wait for each other more than they compute.
    *("--cpus-per-worker", "1", "--workers", "1"),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return directory(tmp_path_factory.mktemp("imagenet"), each=5)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data: Path) -> tuple[Path, Ended]:
    """The sweep with real images. The loop with loading is timed too."""
    store = tmp_path_factory.mktemp("store")
    return store, started(*options(store, data), module=TIMING)


def options(store: Path, data: Path) -> tuple[str, ...]:
    where = ("--store", str(store), "--sweep", "a", "--data", str(data))
    return *where, *SMALL, "--with-loading", "--loaders", "1"


def tables(store: Path) -> Path:
    return store / "sweeps" / "a" / "tables"


def test_it_ends_well_and_says_what_it_has_found(run: tuple[Path, Ended]) -> None:
    store, ended = run
    assert (ended.code, ended.stderr) == (0, "")
    for part in (
        "5 trials in 1 shard",
        "images of ImageNet",
        "BP's, bit for bit",
        "ms with loading (1)",
        "By inference steps of IL",
        f"Figure: {store}/sweeps/a/report/table4.png",
    ):
        assert part in ended.stdout, part
    assert "synthetic" not in ended.stdout
    assert (store / "sweeps/a/report/table4.svg").read_text().startswith("<?xml")


def test_the_weights_in_the_store_show_that_z_il_is_bp(run: tuple[Path, Ended]) -> None:
    folder = tables(run[0])
    query = f"""
        SELECT t.rule, t.schedule, count(*), bool_and(w.sha256 = bp.sha256)
        FROM '{folder}/timings.parquet' t
        JOIN '{folder}/weights.parquet' w USING (trial_id)
        JOIN (SELECT w.* FROM '{folder}/weights.parquet' w JOIN '{folder}/timings.parquet' t
              USING (trial_id) WHERE t.rule = 'BP') bp USING (layer, parameter)
        GROUP BY ALL ORDER BY ALL
    """
    same = {(rule, schedule): equal for rule, schedule, count, equal in duckdb.sql(query).fetchall()
            if count == 8 or rule == "IL"}  # fmt: skip
    assert same == {
        ("BP", None): True,
        ("IL", "layerwise"): False,
        ("Z-IL", "layerwise"): True,
        ("Fa-Z-IL", "layerwise"): True,
    }


def test_every_row_says_what_was_timed_on_what(run: tuple[Path, Ended]) -> None:
    rows = pd.read_parquet(tables(run[0]) / "timings.parquet")
    assert len(rows) == 5
    assert set(rows.data) == {"imagenet"}
    assert set(rows.device_kind) == {"cpu"}
    assert set(rows.threads) == {1}
    assert rows.device.str.contains("1 thread", regex=False).all()
    assert set(rows.status) == {"done"}
    assert (rows.ms_per_update_p10 <= rows.ms_per_update_median).all()
    assert (rows.ms_per_update_median <= rows.ms_per_update_p90).all()
    assert {len(times) for times in rows.ms_per_update} == {5}
    assert (rows.loop_ms_per_update_median > 0).all()
    bp = rows[rows.rule == "BP"].iloc[0]
    assert (bp.ratio_to_bp_median, bp.exact, bp.weight_l2_to_bp) == (1.0, True, 0.0)
    metadata = pq.read_schema(tables(run[0]) / "timings.parquet").metadata
    assert {b"schema_version", b"code_sha256", b"provenance"} <= set(metadata)


def test_what_is_committed_is_not_timed_again(run: tuple[Path, Ended], data: Path) -> None:
    store, first = run
    before = {path: path.read_bytes() for path in store.glob("sweeps/a/shards/**/*.*")}
    again = called(*options(store, data), module=TIMING)
    assert (again.code, again.stderr) == (0, "")
    assert "all 1 shards are committed already" in again.stdout
    assert {path: path.read_bytes() for path in store.glob("sweeps/a/shards/**/*.*")} == before
    table = first.stdout[first.stdout.index("Time of a weight update") :]
    assert table in again.stdout


def test_the_collector_and_the_status_know_timings(run: tuple[Path, Ended]) -> None:
    store, first = run
    collected = called("--store", str(store), "--sweep", "a", module="jobs.collect")
    assert collected.code == 0
    assert first.stdout[first.stdout.index("Time of a weight update") :] in collected.stdout
    status = called("--store", str(store), "--sweep", "a", module="jobs.status")
    assert status.code == 0
    assert "5 trials" in status.stdout


def test_other_updates_under_the_same_name_are_refused(run: tuple[Path, Ended]) -> None:
    # Without --data the images are synthetic, so the trials are others.
    line = refusal("--store", str(run[0]), "--sweep", "a", *SMALL, module=TIMING)
    assert "sweep a already holds another plan" in line


def test_a_broken_image_ends_the_run_in_one_line(tmp_path: Path) -> None:
    folder = directory(tmp_path / "data")
    broken = folder / "train" / "n03" / "n03_1.PNG"
    broken.write_bytes(b"no image")
    where = ("--store", str(tmp_path / "store"), "--data", str(folder), "--local-debug")
    ended = called("--networks", "small-conv", "--t", "5", *where, module=TIMING)
    assert ended.code == 2
    assert ended.stderr.count("\n") == 1
    assert f"{broken} cannot be read as an image" in ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
