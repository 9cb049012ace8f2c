"""The public table of the timing runs, `timings`, and how measurements become its rows.

The fields of the dataclass are the columns: see `pcworker.row`. The names and the meanings of
columns are a contract with users' queries. A missing value is null.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from jobs.imagenet_timing.configuration import TimingConfiguration
from jobs.imagenet_timing.results import Comparison, TrialTiming
from pcworker.clock.turns import Spread, ratios, spread
from pcworker.networks.catalogue import facts
from pcworker.row import After, Int64, Prefix, Without, columns
from pcworker.store.in_turns import TurnsResult, turns_digest, turns_weights
from pcworker.store.result import Origin, Tables, planned_fields
from pcworker.store.tables import WeightRow
from pcworker.trials.trial import Trial


@dataclass(frozen=True, kw_only=True)
class TimingRow:
    """The times of a rule. What was measured is None if its shard has failed; what concerns the
    loop with loading is None where that loop was not timed."""

    trial_id: str
    seed: Int64
    configuration: Annotated[TimingConfiguration, Without(("save_weights",))]
    layers: Annotated[int, After("network")]
    parameters: Annotated[Int64, After("layers")]
    device: Annotated[str | None, After("device_kind")]
    status: str
    """One of "done", "nonfinite" and "failed"."""
    milliseconds: Annotated[Spread | None, Prefix("ms_per_update_")] = None
    ratio: Annotated[Spread | None, Prefix("ratio_to_bp_")] = None
    """The ratios to BP are taken turn by turn."""
    loop_milliseconds: Annotated[Spread | None, Prefix("loop_ms_per_update_")] = None
    loop_ratio: Annotated[Spread | None, Prefix("loop_ratio_to_bp_")] = None
    ms_per_update: Sequence[float] | None = None
    """The times by turn, from which the spreads are."""
    loop_ms_per_update: Sequence[float] | None = None
    peak_memory_bytes: Int64 | None = None
    to_bp: Comparison | None = None
    wall_seconds: float | None = None
    """The seconds that the whole shard took."""
    origin: Annotated[Origin, Without(("device",))]
    engine_version: int


def planned_timing(trial: Trial[TimingConfiguration], origin: Origin, status: str) -> TimingRow:
    """The part of a trial's row that its plan knows. The results are still missing."""
    network = facts(trial.configuration.network)
    return TimingRow(
        **planned_fields(trial, origin, status),
        layers=network.layers,
        parameters=network.parameters,
        device=origin.device,
    )


def timing_rows(result: TurnsResult[TrialTiming], origin: Origin) -> dict[str, Iterable[object]]:
    """The rows of a shard by table."""
    bp = result.trials[0]
    return {
        "timings": [_timing_row(timed, bp, result, origin) for timed in result.trials],
        "weights": turns_weights(result),
    }


_MEASURED = ("ms_per_update", "ratio_to_bp", "loop_", "peak_memory")
"""The beginnings of the names of measured columns."""
TIMING_TABLES = Tables(
    row_types={"timings": TimingRow, "weights": WeightRow},
    per_trial="timings",
    planned=planned_timing,
    rows=timing_rows,
    digest=turns_digest,
    measured=(
        "ms_per_update_median",
        *(c.name for c in columns(TimingRow) if c.name.startswith(_MEASURED)),
    ),
)
"""The tables that a shard writes."""


def _timing_row(
    timed: TrialTiming, bp: TrialTiming, result: TurnsResult[TrialTiming], origin: Origin
) -> TimingRow:
    loop, bp_loop = timed.loop_milliseconds, bp.loop_milliseconds
    return replace(
        planned_timing(timed.trial, origin, "done" if timed.finite else "nonfinite"),
        milliseconds=spread(timed.milliseconds),
        ratio=spread(ratios(timed.milliseconds, bp.milliseconds)),
        loop_milliseconds=spread(loop) if loop else None,
        loop_ratio=spread(ratios(loop, bp_loop)) if loop and bp_loop else None,
        ms_per_update=timed.milliseconds,
        loop_ms_per_update=loop,
        peak_memory_bytes=timed.peak_bytes,
        to_bp=timed.to_bp,
        wall_seconds=result.wall_seconds,
    )
