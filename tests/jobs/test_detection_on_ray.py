"""Tests of the detection runs as researchers start them: by command, on a real Ray, with MNIST."""

from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from command_lines import Ended, called, started

from jobs.detection_rate.tables import DetectionRow
from pcworker.store.parquet import schema_of

DETECTION_RATE = "jobs.detection_rate"
SMALL = (
    *("--networks", "784-16-16-10", "--activations", "sigmoid,relu", "--dtypes", "float32"),
    *("--arithmetics", "textbook", "--gammas", "1", "--stages", "0,20", "--horizons", "l_max-1,8"),
    *("--tolerances", "0,1e-4", "--minibatches", "2", "--workers", "1", "--sweep", "a"),
)
HEADING = "How often phi spikes"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    store = tmp_path_factory.mktemp("store")
    return store, started("--store", str(store), *SMALL, module=DETECTION_RATE)


def test_it_ends_well_and_says_what_it_has_found(run: tuple[Path, Ended]) -> None:
    store, ended = run
    assert (ended.code, ended.stderr) == (0, "")
    for part in (
        "3 trials in 3 shards",
        HEADING,
        "paper, Table 3",
        "784-16-16-10, horizon 8",
        "after 0 updates",
        "|eps| <= 0.0001 counts as 0",
        "relu",
        "weights still",
        f"Tables: {store}/sweeps/a/tables/{{detection,",
    ):
        assert part in ended.stdout, part


def test_any_rate_can_be_had_from_the_stored_counts(run: tuple[Path, Ended]) -> None:
    file = run[0] / "sweeps/a/tables/detection.parquet"
    assert pq.read_schema(file).equals(schema_of(DetectionRow), check_metadata=False)
    assert {b"schema_version", b"code_sha256"} <= set(pq.read_schema(file).metadata)
    rates = duckdb.sql(f"""
        SELECT activation, weights, sum(only_at_l) / sum(pairs), sum(missed_zero) / sum(pairs)
        FROM '{file}' WHERE t_d = 4 AND horizon = 8 AND tolerance = 0 AND stage = 20
        GROUP BY ALL ORDER BY ALL
    """).fetchall()
    assert [row[:2] for row in rates] == [
        ("relu", "learning"),
        ("sigmoid", "learning"),
        ("sigmoid", "still"),
    ]
    assert [row[2:] for row in rates[1:]] == [(1.0, 0.0)] * 2
    assert rates[0][3] > 0.1
    [(rows,)] = duckdb.sql(f"SELECT count(*) FROM '{file}' WHERE status = 'done'").fetchall()
    assert rows == 3 * 2 * 3 * 9 * 2 * 2


def test_what_is_committed_is_not_run_again_and_can_be_collected(run: tuple[Path, Ended]) -> None:
    store, first = run
    before = {path: path.read_bytes() for path in store.glob("sweeps/a/shards/**/*.*")}
    again = called("--store", str(store), *SMALL, module=DETECTION_RATE)
    assert (again.code, again.stderr) == (0, "")
    assert "all 3 shards are committed already" in again.stdout
    assert {path: path.read_bytes() for path in store.glob("sweeps/a/shards/**/*.*")} == before
    table = first.stdout[first.stdout.index(HEADING) :]
    assert table in again.stdout
    collected = called("--store", str(store), "--sweep", "a", module="jobs.collect")
    assert collected.code == 0
    assert table in collected.stdout
    status = called("--store", str(store), "--sweep", "a", module="jobs.status")
    assert (status.code, "3 trials" in status.stdout) == (0, True)
