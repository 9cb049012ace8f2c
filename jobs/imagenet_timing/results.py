"""The measurements of a rule: plain values, which pass from the engine to the store."""

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.imagenet_timing.configuration import TimingConfiguration
from pcworker.store.tables import FinalParameter
from pcworker.trials.trial import Trial


@dataclass(frozen=True)
class Comparison:
    """The differences between the final weights of a rule and those of BP."""

    exact: bool
    """True if every parameter equals BP's, bit for bit."""
    weight_l2_to_bp: float | None
    """The sum over layers of the L2 norm of the difference; None if a weight is not finite."""
    weight_maxabs_to_bp: float | None
    """The largest absolute difference; None if a weight is not finite."""


@dataclass(frozen=True)
class TrialTiming:
    """The measurements of one rule."""

    trial: Trial[TimingConfiguration]
    milliseconds: Sequence[float]
    """Milliseconds per update, by turn."""
    loop_milliseconds: Sequence[float] | None
    """Milliseconds per update of the loop with loading, by turn; None if it was not timed."""
    peak_bytes: int
    """The most memory that an update took, with the weights but without the minibatch."""
    finite: bool
    """True if all final weights are finite."""
    to_bp: Comparison
    parameters: Sequence[FinalParameter]
