"""What training gives: plain values, between the engine and the store."""

from dataclasses import dataclass, field

import numpy as np

from pcworker.trials.trial import Trial


@dataclass(frozen=True)
class EpochMetrics:
    """A trial after one epoch; all None from its first non-finite epoch on.

    The distances, and `twin_test_error`, are None too where the twin is not finite.
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
    """Weight updates made: a non-finite trial stops when it is found out."""
    epochs: list[EpochMetrics] = field(default_factory=list)
    parameters: list[list[np.ndarray]] = field(default_factory=list)
    """Final theta^{l+1} for l = 0 .. l_max - 1; empty for a non-finite trial."""

    @property
    def status(self) -> str:
        return "done" if self.nonfinite_epoch is None else "nonfinite"


@dataclass(frozen=True)
class ShardResult:
    """A shard after its training."""

    trials: list[TrialResult]
    """In the order asked for."""
    twins: dict[str, list[str]]
    """By the twin's trial id: the digest of all its weights after each epoch."""
    packing: str
    """"stacked", "alone" or "irreproducible": see `pcworker.kernels.packing`."""
    wall_seconds: float
    kernel: str = "torch"
    """Or "fused.c", which gives the same bits: see `pcworker.kernels.fused.agreement`."""

    @property
    def trial_ids(self) -> list[str]:
        return [trial.trial.trial_id for trial in self.trials]

    @property
    def updates(self) -> int:
        """Weight updates made, of all trials."""
        return sum(trial.updates for trial in self.trials)
