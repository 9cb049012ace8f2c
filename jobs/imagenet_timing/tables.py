"""The public table of the timing runs, `timings`, and how measurements become its rows.

Column names and meanings are a contract. A missing value is null.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.imagenet_timing.configuration import TimingConfiguration
from jobs.imagenet_timing.results import Parameter, TimingResult, TrialTiming
from pcworker.clock.turns import ratios, spread
from pcworker.fingerprint import fingerprint
from pcworker.networks.catalogue import facts
from pcworker.store.result import Rows, Tables
from pcworker.store.tables import WEIGHTS
from pcworker.trials.trial import ENGINE_VERSION, Trial

_SPREADS = ("ms_per_update", "ratio_to_bp", "loop_ms_per_update", "loop_ratio_to_bp")

TIMINGS = pa.schema(
    [
        ("trial_id", pa.string()),
        ("sweep", pa.string()),
        ("seed", pa.int64()),
        ("network", pa.string()),
        ("layers", pa.int32()),
        ("parameters", pa.int64()),
        ("rule", pa.string()),
        ("t", pa.int32()),
        ("t_d", pa.int32()),
        ("horizon", pa.int32()),
        ("gamma", pa.float64()),
        ("schedule", pa.string()),
        ("arithmetic", pa.string()),
        ("alpha", pa.float64()),
        ("batch_size", pa.int32()),
        ("data", pa.string()),
        ("device_kind", pa.string()),
        ("device", pa.string()),
        ("threads", pa.int32()),
        ("warmup", pa.int32()),
        ("updates", pa.int32()),
        ("block", pa.int32()),
        ("loaders", pa.int32()),
        ("status", pa.string()),
        *(
            (f"{measure}_{statistic}", pa.float64())
            for measure in _SPREADS
            for statistic in ("median", "p10", "p90")
        ),
        ("ms_per_update", pa.list_(pa.float64())),
        ("loop_ms_per_update", pa.list_(pa.float64())),
        ("peak_memory_bytes", pa.int64()),
        ("exact", pa.bool_()),
        ("weight_l2_to_bp", pa.float64()),
        ("weight_maxabs_to_bp", pa.float64()),
        ("wall_seconds", pa.float64()),
        ("shard_id", pa.string()),
        ("attempt_id", pa.string()),
        ("hostname", pa.string()),
        ("torch_version", pa.string()),
        ("git_commit", pa.string()),
        ("engine_version", pa.int32()),
    ]
)


def timing_rows(result: TimingResult, where: Mapping[str, object]) -> dict[str, Rows]:
    """The rows of a shard; `where` has the columns of `Tables.rows`."""
    bp = result.trials[0]
    timings = [_timing_row(timed, bp, result.wall_seconds, where) for timed in result.trials]
    weights = [
        {"trial_id": timed.trial.trial_id, **_weight_columns(parameter)}
        for timed in result.trials
        for parameter in timed.parameters
    ]
    return {"timings": timings, "weights": weights}


def timing_digest(result: TimingResult) -> str:
    """Of the final weights alone: times never repeat themselves, and weights always do."""
    return fingerprint(
        {timed.trial.trial_id: [p.sha256 for p in timed.parameters] for timed in result.trials}
    )


TIMING_TABLES = Tables(
    schemas={"timings": TIMINGS, "weights": WEIGHTS},
    per_trial="timings",
    rows=timing_rows,
    digest=timing_digest,
)
"""What an attempt writes."""


def timing_columns(trial: Trial[TimingConfiguration]) -> dict[str, object]:
    """The columns that say what was to be timed."""
    config, network = trial.configuration, facts(trial.configuration.network)
    columns = asdict(config)
    del columns["save_weights"]
    return {
        "trial_id": trial.trial_id,
        "seed": trial.seed,
        "layers": network.layers,
        "parameters": network.parameters,
        **columns,
        "engine_version": ENGINE_VERSION,
    }


def _timing_row(
    timed: TrialTiming, bp: TrialTiming, wall_seconds: float, where: Mapping[str, object]
) -> dict[str, object]:
    loop, bp_loop = timed.loop_milliseconds, bp.loop_milliseconds
    return {
        **timing_columns(timed.trial),
        "status": "done" if timed.finite else "nonfinite",
        **_spread("ms_per_update", timed.milliseconds),
        **_spread("ratio_to_bp", ratios(timed.milliseconds, bp.milliseconds)),
        **(_spread("loop_ms_per_update", loop) if loop else {}),
        **(_spread("loop_ratio_to_bp", ratios(loop, bp_loop)) if loop and bp_loop else {}),
        "ms_per_update": list(timed.milliseconds),
        "loop_ms_per_update": list(loop) if loop else None,
        "peak_memory_bytes": timed.peak_bytes,
        "exact": timed.to_bp.exact,
        "weight_l2_to_bp": timed.to_bp.l2,
        "weight_maxabs_to_bp": timed.to_bp.maxabs,
        "wall_seconds": wall_seconds,
        **where,
    }


def _spread(name: str, values: Any) -> dict[str, float]:
    return {f"{name}_{statistic}": value for statistic, value in asdict(spread(values)).items()}


def _weight_columns(parameter: Parameter) -> dict[str, object]:
    values = parameter.values
    return {
        "layer": parameter.layer,
        "parameter": parameter.name,
        "dtype": parameter.dtype,
        "shape": list(parameter.shape),
        "value": None if values is None else values.astype(np.float64).ravel(),
        "sha256": parameter.sha256,
    }
