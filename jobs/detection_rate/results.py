"""What a detection run gives: plain values, between the engine and the store."""

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.detection_rate.configuration import DetectionConfiguration
from jobs.detection_rate.counts import Counts
from pcworker.trials.trial import Trial


@dataclass(frozen=True)
class Detected:
    """The counts of one layer in one stage, for one way of looking."""

    stage: int
    """Weight updates before."""
    layer: int
    """l: 0 is the output's."""
    neurons: int
    t_d: int
    horizon: int
    tolerance: float
    counts: Counts


@dataclass(frozen=True)
class DetectionResult:
    """A shard: one trial."""

    trial: Trial[DetectionConfiguration]
    detected: Sequence[Detected]
    finite: bool
    """Whether all weights are, after the last stage's training."""
    twins: dict[str, list[str]]
    """By the twin's trial id: the digest of the weights after the last stage's training."""
    wall_seconds: float
    updates: int
    """Of the training."""
    packing: str = "stacked"
    kernel: None = None

    @property
    def trial_ids(self) -> list[str]:
        return [self.trial.trial_id]
