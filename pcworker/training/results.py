"""The results of training: plain values, which the engine hands to the store."""

from dataclasses import dataclass, field

import numpy as np

from pcworker.trials.trial import Trial


@dataclass(frozen=True)
class EpochMetrics:
    """The metrics of a trial after one epoch. All are None from its first non-finite epoch on.

    The distances and `twin_test_error` are None too if the twin is not finite.
    """

    test_error: float | None = None
    twin_test_error: float | None = None
    train_energy: float | None = None
    weight_l2_to_twin: float | None = None
    weight_l1_to_twin: float | None = None
    weight_maxabs_to_twin: float | None = None


@dataclass
class TrialResult:
    """A trial after its training."""

    trial: Trial
    nonfinite_epoch: int | None = None
    updates: int = 0
    """The number of weight updates made. A trial that is found to be non-finite stops then."""
    epochs: list[EpochMetrics] = field(default_factory=list)
    parameters: list[list[np.ndarray]] = field(default_factory=list)
    """The final theta^{l+1} for l = 0 .. l_max - 1; empty for a non-finite trial."""

    @property
    def status(self) -> str:
        return "done" if self.nonfinite_epoch is None else "nonfinite"


@dataclass(frozen=True)
class ShardResult:
    """A shard after its training."""

    trials: list[TrialResult]
    """The trials in the order in which they were asked for."""
    twins: dict[str, list[str]]
    """The digest of all weights of a twin after each epoch, by the twin's trial id."""
    packing: str
    """How the trials were run: a `pcworker.kernels.kernel.Packing`."""
    wall_seconds: float
    kernel: str = "torch"
    """The name of the kernel. All kernels give a trial the same bits."""

    @property
    def trial_ids(self) -> list[str]:
        return [trial.trial.trial_id for trial in self.trials]

    @property
    def updates(self) -> int:
        """The number of weight updates that all trials made."""
        return sum(trial.updates for trial in self.trials)
