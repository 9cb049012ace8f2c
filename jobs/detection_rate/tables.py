"""The public table of the detection runs, `detection`, and how counts become its rows.

Column names and meanings are a contract. Counts are stored, not rates: rates of any union of rows
are sums divided by sums.
"""

from collections.abc import Mapping
from dataclasses import asdict, fields

import pyarrow as pa

from jobs.detection_rate.configuration import DetectionConfiguration
from jobs.detection_rate.counts import Counts
from jobs.detection_rate.results import DetectionResult
from pcworker.fingerprint import fingerprint
from pcworker.store.result import Rows, Tables
from pcworker.trials.trial import ENGINE_VERSION, Trial

DETECTIONS = pa.schema(
    [
        ("trial_id", pa.string()),
        ("sweep", pa.string()),
        ("seed", pa.int64()),
        ("network", pa.string()),
        ("hidden_layers", pa.int32()),
        ("activation", pa.string()),
        ("dtype", pa.string()),
        ("arithmetic", pa.string()),
        ("gamma", pa.float64()),
        ("weights", pa.string()),
        ("alpha", pa.float64()),
        ("batch_size", pa.int32()),
        ("minibatches", pa.int32()),
        ("status", pa.string()),
        ("stage", pa.int64()),
        ("layer", pa.int32()),
        ("neurons", pa.int32()),
        ("t_d", pa.int32()),
        ("horizon", pa.int32()),
        ("tolerance", pa.float64()),
        *((field.name, pa.int64()) for field in fields(Counts)),
        ("wall_seconds", pa.float64()),
        ("shard_id", pa.string()),
        ("attempt_id", pa.string()),
        ("hostname", pa.string()),
        ("device", pa.string()),
        ("torch_version", pa.string()),
        ("git_commit", pa.string()),
        ("engine_version", pa.int32()),
    ]
)


def detection_rows(result: DetectionResult, where: Mapping[str, object]) -> dict[str, Rows]:
    """The rows of a shard; `where` has the columns of `Tables.rows`."""
    same = {
        **detection_columns(result.trial),
        "status": "done" if result.finite else "nonfinite",
        "wall_seconds": result.wall_seconds,
        **where,
    }
    rows = []
    for detected in result.detected:
        values = asdict(detected)
        rows.append({**same, **values.pop("counts"), **values})
    return {"detection": rows}


def detection_digest(result: DetectionResult) -> str:
    """Of the counts and of the weights."""
    counts = [asdict(detected) for detected in result.detected]
    return fingerprint([result.trial.trial_id, counts, dict(result.twins)])


DETECTION_TABLES = Tables(
    schemas={"detection": DETECTIONS},
    per_trial="detection",
    rows=detection_rows,
    digest=detection_digest,
)
"""What an attempt writes."""


def detection_columns(trial: Trial[DetectionConfiguration]) -> dict[str, object]:
    """The columns that say what was to be looked at."""
    columns = asdict(trial.configuration)
    for axis in ("stages", "horizons", "tolerances"):  # each row has one of their values
        del columns[axis]
    return {
        "trial_id": trial.trial_id,
        "seed": trial.seed,
        "hidden_layers": trial.configuration.training.hidden_layers,
        **columns,
        "engine_version": ENGINE_VERSION,
    }
