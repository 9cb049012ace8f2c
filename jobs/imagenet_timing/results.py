"""What timing a shard gives: plain values, between the engine and the store."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jobs.imagenet_timing.configuration import TimingConfiguration
from pcworker.trials.trial import Trial


@dataclass(frozen=True)
class Parameter:
    """A final parameter."""

    layer: int
    """l + 1: 1 is the output layer's."""
    name: str
    """"weight" or "bias"."""
    dtype: str
    shape: tuple[int, ...]
    sha256: str
    values: np.ndarray | None
    """None where it is too large to be kept."""


@dataclass(frozen=True)
class Comparison:
    """The final weights beside BP's."""

    exact: bool
    """Every parameter is BP's, bit for bit."""
    l2: float | None
    """Sum over layers of the L2 norm of the difference; None where one is not finite."""
    maxabs: float | None


@dataclass(frozen=True)
class TrialTiming:
    """One rule's measurements."""

    trial: Trial[TimingConfiguration]
    milliseconds: Sequence[float]
    """Per update, by turn."""
    loop_milliseconds: Sequence[float] | None
    """The same of the loop with loading, where it was timed."""
    peak_bytes: int
    """Most memory of an update, the weights included, the minibatch not."""
    finite: bool
    """Whether all final weights are."""
    to_bp: Comparison
    parameters: Sequence[Parameter]


@dataclass(frozen=True)
class TimingResult:
    """A shard that was timed."""

    trials: Sequence[TrialTiming]
    """BP first."""
    twins: dict[str, list[str]]
    """By BP's trial id: the digest of its final weights."""
    wall_seconds: float
    updates: int
    """Of all trials."""
    packing: str = "alone"
    """Each trial is a network of its own."""
    kernel: None = None

    @property
    def trial_ids(self) -> list[str]:
        return [timed.trial.trial_id for timed in self.trials]
