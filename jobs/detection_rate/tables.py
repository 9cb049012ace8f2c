"""The public table of the detection runs, `detection`, and how counts become its rows.

The fields of the dataclass are the columns: see `pcworker.row`. The names and the meanings of
columns are a contract with users' queries. The table holds counts, not rates: the rate of any set
of rows is a sum divided by a sum.
"""

from dataclasses import asdict, dataclass, replace
from typing import Annotated

from jobs.detection_rate.configuration import DetectionConfiguration
from jobs.detection_rate.results import Detected, DetectionResult
from pcworker.fingerprint import fingerprint
from pcworker.row import Int64, Without
from pcworker.store.result import Origin, Tables, planned_fields
from pcworker.store.tables import HiddenLayers
from pcworker.trials.trial import Trial


@dataclass(frozen=True, kw_only=True)
class DetectionRow:
    """The counts of one layer in one stage of a trial. Its shard has failed if there are none."""

    trial_id: str
    seed: Int64
    # A row has one value of each of these lists.
    configuration: Annotated[DetectionConfiguration, Without(("stages", "horizons", "tolerances"))]
    hidden_layers: HiddenLayers
    status: str
    """One of "done", "nonfinite" and "failed"."""
    detected: Detected | None = None
    wall_seconds: float | None = None
    """The seconds that the whole shard took."""
    origin: Origin
    engine_version: int


def planned_detection(
    trial: Trial[DetectionConfiguration], origin: Origin, status: str
) -> DetectionRow:
    """The part of a trial's row that its plan knows. The results are still missing."""
    return DetectionRow(
        **planned_fields(trial, origin, status),
        hidden_layers=trial.configuration.training.hidden_layers,
    )


def detection_rows(result: DetectionResult, origin: Origin) -> dict[str, list[DetectionRow]]:
    """The rows of a shard."""
    same = replace(
        planned_detection(result.trial, origin, "done" if result.finite else "nonfinite"),
        wall_seconds=result.wall_seconds,
    )
    return {"detection": [replace(same, detected=detected) for detected in result.detected]}


def detection_digest(result: DetectionResult) -> str:
    """A digest of the counts and of the weights."""
    counts = [asdict(detected) for detected in result.detected]
    return fingerprint([result.trial.trial_id, counts, dict(result.twins)])


DETECTION_TABLES = Tables(
    row_types={"detection": DetectionRow},
    per_trial="detection",
    planned=planned_detection,
    rows=detection_rows,
    digest=detection_digest,
)
"""The table that a shard writes."""
