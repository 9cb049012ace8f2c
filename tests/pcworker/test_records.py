"""The public tables. Oracle: the contract's columns, written out; NumPy's bits; hashlib."""

import hashlib
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import shard_result, tiny, where

from jobs.mnist_ablation.tables import DIVERGENCE
from pcworker.store.commit import commit_shard, read_commit
from pcworker.store.keys import SweepKeys
from pcworker.store.local import LocalStore
from pcworker.store.parquet import from_parquet, table, to_parquet
from pcworker.store.tables import EPOCHS, SHARD_TABLES, TRIALS, WEIGHTS
from pcworker.training.results import EpochMetrics, ShardResult, TrialResult
from pcworker.trials.trial import ENGINE_VERSION, Trial

CONFIGURATION = [
    "network", "hidden_layers", "activation", "bias", "rule", "t", "t_d", "horizon", "gamma",
    "sigma", "alpha", "batch_size", "epochs", "init", "reduction", "targets", "dtype", "arithmetic",
    "schedule",
]  # fmt: skip
COLUMNS = {
    "trials": [
        "trial_id", "sweep", "seed", *CONFIGURATION, "status", "nonfinite_epoch", "updates",
        "final_test_error", "wall_seconds", "shard_id", "attempt_id", "hostname", "device",
        "torch_version", "git_commit", "engine_version", "packing_invariant",
    ],
    "epochs": [
        "trial_id", "seed", "epoch", "test_error", "twin_test_error", "train_energy",
        "weight_l2_to_twin", "weight_l1_to_twin", "weight_maxabs_to_twin",
    ],
    "weights": ["trial_id", "layer", "parameter", "dtype", "shape", "value", "sha256"],
    "divergence": [
        "panel", *CONFIGURATION, "trial_ids", "n_seeds", "n_nonfinite",
        "test_error_divergence_mean", "test_error_divergence_sd", "test_error_divergence_min",
        "test_error_divergence_max", "weight_divergence_l2_mean", "weight_divergence_l2_sd",
        "weight_divergence_l2_min", "weight_divergence_l2_max", "weight_divergence_l1_mean",
        "weight_divergence_maxabs_max", "exact",
    ],
}  # fmt: skip
SCHEMAS = {"trials": TRIALS, "epochs": EPOCHS, "weights": WEIGHTS, "divergence": DIVERGENCE}
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


@pytest.mark.parametrize("name", COLUMNS)
def test_the_columns_are_those_of_the_contract_in_its_order(name: str) -> None:
    assert SCHEMAS[name].names == COLUMNS[name]


@pytest.mark.parametrize("name", ["trials", "epochs", "weights"])
def test_the_files_of_a_shard_have_the_columns_of_the_contract(folder: Path, name: str) -> None:
    schema = pq.read_schema(folder / f"{name}.parquet")
    assert schema.names == COLUMNS[name]
    assert schema.remove_metadata() == SCHEMAS[name]


def test_the_types_that_users_rely_on() -> None:
    assert TRIALS.field("seed").type == EPOCHS.field("seed").type == pa.int64()
    assert TRIALS.field("gamma").type == TRIALS.field("sigma").type == pa.float64()
    assert TRIALS.field("t").type == pa.int32()
    assert EPOCHS.field("epoch").type == pa.int32()
    assert WEIGHTS.field("value").type == pa.list_(pa.float64())
    assert WEIGHTS.field("shape").type == pa.list_(pa.int32())
    assert DIVERGENCE.field("exact").type == pa.bool_()
    assert DIVERGENCE.field("trial_ids").type == pa.list_(pa.string())


@pytest.mark.parametrize("name", ["trials", "epochs", "weights"])
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


def test_a_column_that_is_not_in_the_contract_is_refused() -> None:
    with pytest.raises(ValueError, match="no such columns"):
        table(EPOCHS, [{"trial_id": "a", "accuracy": 1.0}], {})


# Rows


def stored(made: ShardResult, columns: dict[str, Any]) -> dict[str, pa.Table]:
    """The tables of a shard, as they are written."""
    rows = SHARD_TABLES.rows(made, columns)
    return {name: table(schema, rows[name], {}) for name, schema in SHARD_TABLES.schemas.items()}


def test_a_row_of_trials_is_the_trial() -> None:
    trial = Trial(tiny("IL", t=0, sigma=0.1, bias=True), 5)
    made = shard_result([trial], lambda trial: 0.125)
    columns = {"sweep": "s", "shard_id": "0", "attempt_id": "a", "hostname": "h", "device": "d",
               "torch_version": "2", "git_commit": None}  # fmt: skip
    (row,) = stored(made, columns)["trials"].to_pylist()
    assert row == {
        "trial_id": trial.trial_id, "sweep": "s", "seed": 5, "network": "3-2-2", "hidden_layers": 1,
        "activation": "sigmoid", "bias": True, "rule": "IL", "t": 0, "t_d": None, "horizon": None,
        "gamma": None, "sigma": 0.1, "alpha": 0.001, "batch_size": 20, "epochs": 1,
        "init": "xavier", "reduction": "sum", "targets": "onehot", "dtype": "float32",
        "arithmetic": "displacement", "schedule": "layerwise", "status": "done",
        "nonfinite_epoch": None, "updates": 100, "final_test_error": 0.625, "wall_seconds": 1.5,
        "shard_id": "0", "attempt_id": "a", "hostname": "h", "device": "d", "torch_version": "2",
        "git_commit": None, "engine_version": ENGINE_VERSION, "packing_invariant": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("packing", "invariant"), [("stacked", True), ("alone", True), ("irreproducible", False)]
)
def test_packing_invariance_is_recorded(packing: str, invariant: bool) -> None:
    made = shard_with(np.ones((2, 2)))
    told = ShardResult(made.trials, made.twins, packing, 1.0)
    (row,) = stored(told, {})["trials"].to_pylist()
    assert row["packing_invariant"] is invariant


def test_layers_count_from_1_at_the_output_and_weights_come_before_biases() -> None:
    made = shard_with(np.ones((2, 2)), np.zeros(2))
    rows = stored(made, {})["weights"].to_pylist()
    assert [(row["layer"], row["parameter"], row["shape"]) for row in rows] == [
        (1, "weight", [2, 2]), (1, "bias", [2]), (2, "weight", [2, 3]), (2, "bias", [2]),
    ]  # fmt: skip


# Bits


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_come_back_bit_for_bit(tmp_path: Path, dtype: str) -> None:
    values = edge_values(dtype)
    weight = values.reshape(3, 5)
    made = stored(shard_with(weight), {})["weights"]
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
    stored = np.asarray(weight, order=order)  # type: ignore[call-overload]
    row = stored(shard_with(stored), {})["weights"].to_pylist()[0]
    little = weight.astype({"float32": "<f4", "float64": "<f8"}[dtype])
    assert row["sha256"] == hashlib.sha256(little.tobytes(order="C")).hexdigest()
    assert row["dtype"] == dtype
    assert np.array(row["value"]).reshape(row["shape"]).tolist() == weight.tolist()


def test_sha256_does_not_depend_on_the_byte_order_in_memory() -> None:
    weight = edge_values("float32").reshape(3, 5)
    rows = [
        stored(shard_with(weight.astype(kind)), {})["weights"].to_pylist()[0]
        for kind in ("<f4", ">f4")
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
