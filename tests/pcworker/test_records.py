"""The public tables. Oracle: the columns and types of commit 56bd024, written out; NumPy's bits;
hashlib."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import shard_result, tiny, where

from jobs.detection_rate.tables import DetectionRow
from jobs.imagenet_timing.tables import TimingRow
from jobs.mnist_ablation.tables import DivergenceRow
from pcworker.row import values
from pcworker.store.commit import commit_shard, read_commit
from pcworker.store.keys import SweepKeys
from pcworker.store.local import LocalStore
from pcworker.store.parquet import from_parquet, schema_of, table, to_parquet
from pcworker.store.result import Origin
from pcworker.store.tables import (
    SHARD_TABLES,
    EpochRow,
    FailureRow,
    HiddenLayers,
    TrialRow,
    WeightRow,
    planned_trial,
)
from pcworker.training.results import EpochMetrics, ShardResult, TrialResult
from pcworker.trials.configuration import Configuration
from pcworker.trials.trial import Trial

CONFIGURATION = """
    network string, hidden_layers int32, activation string, bias bool, rule string, t int32,
    t_d int32, horizon int32, gamma double, sigma double, alpha double, batch_size int32,
    epochs int32, init string, reduction string, targets string, dtype string, arithmetic string,
    schedule string, sums string"""
CONTRACT = {
    TrialRow: f"""
        trial_id string, sweep string, seed int64, {CONFIGURATION}, status string,
        nonfinite_epoch int32, updates int64, final_test_error double, wall_seconds double,
        shard_id string, attempt_id string, hostname string, device string, torch_version string,
        git_commit string, engine_version int32, packing_invariant bool""",
    EpochRow: """
        trial_id string, seed int64, epoch int32, test_error double, twin_test_error double,
        train_energy double, weight_l2_to_twin double, weight_l1_to_twin double,
        weight_maxabs_to_twin double""",
    WeightRow: """
        trial_id string, layer int32, parameter string, dtype string, shape list<item: int32>,
        value list<item: double>, sha256 string""",
    FailureRow: """
        sweep string, shard_id string, attempt_id string, kind string, quarantined bool,
        error string, traceback string, driver string, time string,
        trial_ids list<item: string>""",
    DivergenceRow: f"""
        panel string, {CONFIGURATION}, trial_ids list<item: string>, n_seeds int32,
        n_nonfinite int32, test_error_divergence_mean double, test_error_divergence_sd double,
        test_error_divergence_min double, test_error_divergence_max double,
        weight_divergence_l2_mean double, weight_divergence_l2_sd double,
        weight_divergence_l2_min double, weight_divergence_l2_max double,
        weight_divergence_l1_mean double, weight_divergence_maxabs_max double, exact bool""",
    TimingRow: """
        trial_id string, sweep string, seed int64, network string, layers int32, parameters int64,
        rule string, t int32, t_d int32, horizon int32, gamma double, schedule string,
        arithmetic string, execution string, alpha double, batch_size int32, data string,
        device_kind string, device string, threads int32, warmup int32, updates int32, block int32,
        loaders int32,
        status string, ms_per_update_median double, ms_per_update_p10 double,
        ms_per_update_p90 double, ratio_to_bp_median double, ratio_to_bp_p10 double,
        ratio_to_bp_p90 double, loop_ms_per_update_median double, loop_ms_per_update_p10 double,
        loop_ms_per_update_p90 double, loop_ratio_to_bp_median double, loop_ratio_to_bp_p10 double,
        loop_ratio_to_bp_p90 double, ms_per_update list<item: double>,
        loop_ms_per_update list<item: double>, peak_memory_bytes int64, exact bool,
        weight_l2_to_bp double, weight_maxabs_to_bp double, wall_seconds double, shard_id string,
        attempt_id string, hostname string, torch_version string, git_commit string,
        engine_version int32""",
    DetectionRow: """
        trial_id string, sweep string, seed int64, network string, hidden_layers int32,
        activation string, dtype string, arithmetic string, gamma double, weights string,
        alpha double, batch_size int32, minibatches int32, sums string, status string, stage int64,
        layer int32, neurons int32, t_d int32, horizon int32, tolerance double, pairs int64,
        spike_at_l int64, only_at_l int64, missed_zero int64, missed_nonzero int64, early int64,
        late int64, missed_late int64, spikes int64, wall_seconds double, shard_id string,
        attempt_id string, hostname string, device string, torch_version string, git_commit string,
        engine_version int32""",
}
"""The names, types and order of the columns, by the dataclass of the rows. They never change."""
ALIASES = {"double": pa.float64()} | {
    f"list<item: {name}>": pa.list_(kind)
    for name, kind in {"string": pa.string(), "int32": pa.int32(), "double": pa.float64()}.items()
}
LIMITS = [0.0, -0.0, 1.0, -1.0, 1 / 3, np.pi, -1e-30, 1e30]


def edge_values(dtype: str) -> np.ndarray:
    """Values of a type that a detour through text or another type would change."""
    info = np.finfo(dtype)
    edges = [info.smallest_subnormal, -3 * info.smallest_subnormal, info.tiny, info.max, info.min]
    one = np.array(1, dtype)
    return np.array([*LIMITS, *edges, np.nextafter(one, 2 * one), np.nextafter(one, 0 * one)],
                    dtype)  # fmt: skip


def shard_with(weight: np.ndarray, bias: np.ndarray | None = None) -> ShardResult:
    """One trial whose output layer has these parameters."""
    trial = Trial(tiny("BP", dtype=weight.dtype.name), 1)
    other = np.ones((2, 3), weight.dtype)
    layers = [[weight], [other]] if bias is None else [[weight, bias], [other, bias]]
    result = TrialResult(trial, updates=1, epochs=[EpochMetrics(test_error=0.5)], parameters=layers)
    return ShardResult([result], {trial.trial_id: ["-"]}, "stacked", 1.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A committed shard's files: BP, Z-IL and a non-finite trial, two epochs each."""
    store, keys = LocalStore(tmp_path), SweepKeys("tiny")
    trials = [
        Trial(tiny("BP", epochs=2), 2**63 - 1),
        Trial(tiny("Z-IL", epochs=2), 2**63 - 1),
        Trial(tiny("IL", t=1, epochs=2), 2**63 - 1),
    ]
    made = shard_result(trials, lambda trial: None if trial.configuration.rule == "IL" else 0.0)
    commit_shard(
        store, keys, "s", "a", made, SHARD_TABLES, where(git_commit="d" * 40, git_dirty=True)
    )
    return tmp_path / "sweeps/tiny/shards/s/attempts/a"


# Columns


def contract(row: type) -> pa.Schema:
    """The schema that is written out for the rows of a table."""
    columns = [column.strip().split(" ", 1) for column in CONTRACT[row].split(",")]
    return pa.schema([(name, ALIASES.get(kind, kind)) for name, kind in columns])


@pytest.mark.parametrize("row", CONTRACT)
def test_the_columns_are_those_of_the_contract_in_its_order(row: type) -> None:
    assert schema_of(row).equals(contract(row), check_metadata=True)


@pytest.mark.parametrize("name", SHARD_TABLES.row_types)
def test_the_files_of_a_shard_have_the_columns_of_the_contract(folder: Path, name: str) -> None:
    schema = pq.read_schema(folder / f"{name}.parquet")
    assert schema.remove_metadata() == contract(SHARD_TABLES.row_types[name])


@pytest.mark.parametrize("name", SHARD_TABLES.row_types)
def test_files_that_older_code_wrote_are_read_together_with_new_ones(
    folder: Path, tmp_path: Path, name: str
) -> None:
    """A table by PyArrow alone, of the columns that are written out, stands for an old file."""
    new = from_parquet((folder / f"{name}.parquet").read_bytes())
    older = pa.table(new.columns, schema=contract(SHARD_TABLES.row_types[name]))
    pq.write_table(older, tmp_path / "older.parquet", compression="zstd")
    old = from_parquet((tmp_path / "older.parquet").read_bytes())
    both = pa.concat_tables([old, new.replace_schema_metadata(None)])
    assert both.to_pylist() == 2 * new.to_pylist()


def test_a_new_field_of_a_configuration_is_a_new_column() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Extended(Configuration):
        momentum: float

    @dataclass(frozen=True, kw_only=True)
    class ExtendedRow:
        trial_id: str
        configuration: Extended
        hidden_layers: HiddenLayers

    assert schema_of(ExtendedRow).names[-2:] == ["sums", "momentum"]
    config = Extended(**vars(tiny()), momentum=0.5)
    row = ExtendedRow(trial_id="a", configuration=config, hidden_layers=1)
    (read,) = table(ExtendedRow, [row], {}).to_pylist()
    assert (read["momentum"], read["hidden_layers"], read["network"]) == (0.5, 1, "3-2-2")


@pytest.mark.parametrize("name", SHARD_TABLES.row_types)
def test_every_file_says_its_schema_and_the_code_that_wrote_it(folder: Path, name: str) -> None:
    metadata = pq.read_schema(folder / f"{name}.parquet").metadata
    assert metadata[b"schema_version"] == b"1"
    assert metadata[b"code_sha256"] == b"c" * 64
    assert metadata[b"git_commit"] == b"d" * 40
    assert metadata[b"git_dirty"] == b"true"


def test_without_a_repository_the_git_metadata_are_absent(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    commit_shard(
        store, SweepKeys("a"), "s", "a", shard_with(np.ones((2, 2))), SHARD_TABLES, where("a")
    )
    commit = read_commit(store, SweepKeys("a"), "s")
    assert commit is not None
    for file in commit.files:
        assert not {b"git_commit", b"git_dirty"} & set(pq.read_schema(tmp_path / file.key).metadata)


def test_a_row_of_another_table_is_refused() -> None:
    row = EpochRow(trial_id="a", seed=1, epoch=1, metrics=EpochMetrics())
    with pytest.raises(TypeError, match="rows of EpochRow in a table of TrialRow"):
        table(TrialRow, [row], {})


# Rows


ORIGIN = Origin(
    sweep="s", shard_id="0", attempt_id="a", hostname="h", device="d", torch_version="2"
)


def stored(made: ShardResult) -> dict[str, pa.Table]:
    """The tables of a shard, as they are written."""
    rows = SHARD_TABLES.rows(made, ORIGIN)
    return {name: table(row, rows[name], {}) for name, row in SHARD_TABLES.row_types.items()}


def test_a_row_of_trials_is_the_trial() -> None:
    trial = Trial(tiny("IL", t=0, sigma=0.1, bias=True), 5)
    made = shard_result([trial], lambda trial: 0.125)
    (row,) = stored(made)["trials"].to_pylist()
    assert row == {
        "trial_id": trial.trial_id, "sweep": "s", "seed": 5, "network": "3-2-2", "hidden_layers": 1,
        "activation": "sigmoid", "bias": True, "rule": "IL", "t": 0, "t_d": None, "horizon": None,
        "gamma": None, "sigma": 0.1, "alpha": 0.001, "batch_size": 20, "epochs": 1,
        "init": "xavier", "reduction": "sum", "targets": "onehot", "dtype": "float32",
        "arithmetic": "displacement", "schedule": "layerwise", "sums": "fixed",
        "status": "done",
        "nonfinite_epoch": None, "updates": 100, "final_test_error": 0.625, "wall_seconds": 1.5,
        "shard_id": "0", "attempt_id": "a", "hostname": "h", "device": "d", "torch_version": "2",
        "git_commit": None, "engine_version": 2, "packing_invariant": True,
    }  # fmt: skip


def test_a_row_of_a_trial_that_has_failed_says_what_it_was_to_be() -> None:
    trial = Trial(tiny("IL", t=0), 5)
    row = values(planned_trial(trial, Origin(sweep="s", shard_id="0"), "failed"))
    said = {name: value for name, value in row.items() if value is not None}
    assert said == {
        "trial_id": trial.trial_id, "sweep": "s", "seed": 5, "network": "3-2-2", "hidden_layers": 1,
        "activation": "sigmoid", "bias": False, "rule": "IL", "t": 0, "sigma": 0.0, "alpha": 0.001,
        "batch_size": 20, "epochs": 1, "init": "xavier", "reduction": "sum", "targets": "onehot",
        "dtype": "float32", "arithmetic": "displacement", "schedule": "layerwise",
        "sums": "fixed", "status": "failed", "shard_id": "0", "engine_version": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("packing", "invariant"), [("stacked", True), ("alone", True), ("irreproducible", False)]
)
def test_packing_invariance_is_recorded(packing: str, invariant: bool) -> None:
    made = shard_with(np.ones((2, 2)))
    told = ShardResult(made.trials, made.twins, packing, 1.0)
    (row,) = stored(told)["trials"].to_pylist()
    assert row["packing_invariant"] is invariant


def test_layers_count_from_1_at_the_output_and_weights_come_before_biases() -> None:
    made = shard_with(np.ones((2, 2)), np.zeros(2))
    rows = stored(made)["weights"].to_pylist()
    assert [(row["layer"], row["parameter"], row["shape"]) for row in rows] == [
        (1, "weight", [2, 2]), (1, "bias", [2]), (2, "weight", [2, 3]), (2, "bias", [2]),
    ]  # fmt: skip


# Bits


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_come_back_bit_for_bit(tmp_path: Path, dtype: str) -> None:
    values = edge_values(dtype)
    weight = values.reshape(3, 5)
    made = stored(shard_with(weight))["weights"]
    path = tmp_path / "weights.parquet"
    path.write_bytes(to_parquet(made))

    by_arrow = from_parquet(path.read_bytes())["value"].to_pylist()[0]
    by_pandas = pd.read_parquet(path)["value"][0]
    query = f"SELECT value FROM '{path}' WHERE layer = 1"
    ((by_duckdb,),) = duckdb.sql(query).fetchall()
    for read in (by_arrow, by_pandas, by_duckdb):
        back = np.array(read, np.float64)
        assert back.astype(dtype).tobytes() == values.tobytes()
        assert back.tobytes() == values.astype(np.float64).tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_sha256_is_that_of_the_little_endian_bytes_in_rows(dtype: str, order: str) -> None:
    weight = edge_values(dtype).reshape(3, 5)
    ordered = np.asarray(weight, order=order)  # type: ignore[call-overload]
    row = stored(shard_with(ordered))["weights"].to_pylist()[0]
    little = (weight + 0.0).astype({"float32": "<f4", "float64": "<f8"}[dtype])  # -0 is +0
    assert row["sha256"] == hashlib.sha256(little.tobytes(order="C")).hexdigest()
    assert row["dtype"] == dtype
    assert np.array(row["value"]).reshape(row["shape"]).tolist() == weight.tolist()


def test_sha256_does_not_depend_on_the_byte_order_in_memory() -> None:
    weight = edge_values("float32").reshape(3, 5)
    rows = [
        stored(shard_with(weight.astype(kind)))["weights"].to_pylist()[0] for kind in ("<f4", ">f4")
    ]
    assert rows[0]["sha256"] == rows[1]["sha256"]
    assert rows[0]["value"] == rows[1]["value"]


# Users' queries


def test_duckdb_answers_over_the_three_tables_together(folder: Path) -> None:
    answer = duckdb.sql(f"""
        SELECT rule, seed, status, count(DISTINCT epoch), count(test_error),
               count(DISTINCT layer), sum(len(value)) / 2
        FROM '{folder}/trials.parquet' AS trials
        JOIN '{folder}/epochs.parquet' USING (trial_id, seed)
        LEFT JOIN '{folder}/weights.parquet' USING (trial_id)
        GROUP BY ALL ORDER BY rule
    """).fetchall()
    seed = 2**63 - 1
    assert answer == [
        ("BP", seed, "done", 2, 4, 2, 10.0),  # 4: each of 2 epochs meets 2 layers
        ("IL", seed, "nonfinite", 2, 0, 0, None),
        ("Z-IL", seed, "done", 2, 4, 2, 10.0),
    ]


def test_pandas_reads_the_tables(folder: Path) -> None:
    trials = pd.read_parquet(folder / "trials.parquet").set_index("rule")
    epochs = pd.read_parquet(folder / "epochs.parquet")
    assert trials["seed"].tolist() == [2**63 - 1] * 3
    assert trials.loc["IL", "status"] == "nonfinite"
    assert epochs["test_error"].isna().tolist() == [False] * 4 + [True] * 2
    assert epochs["epoch"].tolist() == [1, 2] * 3
