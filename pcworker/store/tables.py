"""The public tables: their columns, and how results become rows.

Column names and meanings are a contract with users' queries. A missing value is null.
"""

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
import pyarrow as pa

from pcworker.fingerprint import fingerprint
from pcworker.store.result import Rows, Tables
from pcworker.training.results import ShardResult, TrialResult
from pcworker.trials.configuration import Configuration
from pcworker.trials.digests import parameter_sha256
from pcworker.trials.trial import ENGINE_VERSION, Trial

CONFIGURATION = [
    ("network", pa.string()),
    ("hidden_layers", pa.int32()),
    ("activation", pa.string()),
    ("bias", pa.bool_()),
    ("rule", pa.string()),
    ("t", pa.int32()),
    ("t_d", pa.int32()),
    ("horizon", pa.int32()),
    ("gamma", pa.float64()),
    ("sigma", pa.float64()),
    ("alpha", pa.float64()),
    ("batch_size", pa.int32()),
    ("epochs", pa.int32()),
    ("init", pa.string()),
    ("reduction", pa.string()),
    ("targets", pa.string()),
    ("dtype", pa.string()),
    ("arithmetic", pa.string()),
    ("schedule", pa.string()),
]

TRIALS = pa.schema(
    [
        ("trial_id", pa.string()),
        ("sweep", pa.string()),
        ("seed", pa.int64()),
        *CONFIGURATION,
        ("status", pa.string()),
        ("nonfinite_epoch", pa.int32()),
        ("updates", pa.int64()),
        ("final_test_error", pa.float64()),
        ("wall_seconds", pa.float64()),
        ("shard_id", pa.string()),
        ("attempt_id", pa.string()),
        ("hostname", pa.string()),
        ("device", pa.string()),
        ("torch_version", pa.string()),
        ("git_commit", pa.string()),
        ("engine_version", pa.int32()),
        ("packing_invariant", pa.bool_()),
    ]
)

EPOCHS = pa.schema(
    [
        ("trial_id", pa.string()),
        ("seed", pa.int64()),
        ("epoch", pa.int32()),
        ("test_error", pa.float64()),
        ("twin_test_error", pa.float64()),
        ("train_energy", pa.float64()),
        ("weight_l2_to_twin", pa.float64()),
        ("weight_l1_to_twin", pa.float64()),
        ("weight_maxabs_to_twin", pa.float64()),
    ]
)

WEIGHTS = pa.schema(
    [
        ("trial_id", pa.string()),
        ("layer", pa.int32()),
        ("parameter", pa.string()),
        ("dtype", pa.string()),
        ("shape", pa.list_(pa.int32())),
        ("value", pa.list_(pa.float64())),
        ("sha256", pa.string()),
    ]
)


def shard_rows(result: ShardResult, where: Mapping[str, object]) -> dict[str, Rows]:
    """The rows of a shard; `where` has the columns of `Tables.rows`."""
    return {
        "trials": [_trial_row(trial, result, where) for trial in result.trials],
        "epochs": [row for trial in result.trials for row in _epoch_rows(trial)],
        "weights": [row for trial in result.trials for row in _weight_rows(trial)],
    }


def result_digest(result: ShardResult) -> str:
    """A digest of the results alone: equal for two attempts if and only if every value is, bit for
    bit, whatever ran them, in whatever order."""
    values = [
        [
            trial.trial.trial_id,
            trial.nonfinite_epoch,
            trial.updates,
            [[_bits(v) for v in asdict(metrics).values()] for metrics in trial.epochs],
            [[parameter_sha256(p) for p in layer] for layer in trial.parameters],
        ]
        for trial in sorted(result.trials, key=lambda trial: trial.trial.trial_id)
    ]
    return fingerprint([values, dict(sorted(result.twins.items()))])


SHARD_TABLES = Tables(
    schemas={"trials": TRIALS, "epochs": EPOCHS, "weights": WEIGHTS},
    per_trial="trials",
    rows=shard_rows,
    digest=result_digest,
)
"""What an attempt writes."""


def configuration_columns(config: Configuration) -> dict[str, object]:
    """The columns of a configuration."""
    return {**asdict(config), "hidden_layers": config.hidden_layers}


def trial_columns(trial: Trial) -> dict[str, object]:
    """The columns of `trials` that say what was to be trained."""
    return {
        "trial_id": trial.trial_id,
        "seed": trial.seed,
        **configuration_columns(trial.configuration),
        "engine_version": ENGINE_VERSION,
    }


def _trial_row(
    trial: TrialResult, result: ShardResult, where: Mapping[str, object]
) -> dict[str, object]:
    return {
        **trial_columns(trial.trial),
        "status": trial.status,
        "nonfinite_epoch": trial.nonfinite_epoch,
        "updates": trial.updates,
        "final_test_error": trial.epochs[-1].test_error,
        "wall_seconds": result.wall_seconds,
        "packing_invariant": result.packing != "irreproducible",
        **where,
    }


def _epoch_rows(trial: TrialResult) -> list[dict[str, object]]:
    identity = {"trial_id": trial.trial.trial_id, "seed": trial.trial.seed}
    return [
        {**identity, "epoch": epoch, **asdict(metrics)}
        for epoch, metrics in enumerate(trial.epochs, 1)
    ]


def _weight_rows(trial: TrialResult) -> list[dict[str, object]]:
    return [
        {
            "trial_id": trial.trial.trial_id,
            "layer": l + 1,
            "parameter": name,
            "dtype": str(values.dtype),
            "shape": list(values.shape),
            "value": values.astype(np.float64).ravel(),
            "sha256": parameter_sha256(values),
        }
        for l, layer in enumerate(trial.parameters)
        for name, values in zip(("weight", "bias"), layer, strict=False)
    ]


def _bits(value: float | None) -> str | None:
    return None if value is None else value.hex()
