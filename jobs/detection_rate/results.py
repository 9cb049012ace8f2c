"""The results of a detection run: plain values, which pass from the engine to the store."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from jobs.detection_rate.configuration import DetectionConfiguration
from jobs.detection_rate.counts import Counts
from pcworker.row import Axis, Int64
from pcworker.trials.trial import Trial


@dataclass(frozen=True)
class Detected:
    """The counts of one layer in one stage, for one t_d, horizon and tolerance."""

    stage: Annotated[Int64, Axis()]
    """The number of weight updates before inference is watched."""
    layer: Annotated[int, Axis()]
    """l: 0 is the output layer."""
    neurons: int
    t_d: Annotated[int, Axis()]
    horizon: Annotated[int, Axis()]
    tolerance: Annotated[float, Axis()]
    counts: Counts


@dataclass(frozen=True)
class DetectionResult:
    """The results of a shard, which has one trial."""

    trial: Trial[DetectionConfiguration]
    detected: Sequence[Detected]
    finite: bool
    """True if all weights are finite after the training of the last stage."""
    twins: dict[str, list[str]]
    """The digest of the weights after the training of the last stage, by the twin's trial id."""
    wall_seconds: float
    updates: int
    """The number of weight updates of the training."""
    packing: str = "stacked"
    kernel: None = None

    @property
    def trial_ids(self) -> list[str]:
        return [self.trial.trial_id]
