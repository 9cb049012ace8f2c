"""The results of a shard whose rules took turns beside BP, and what its tables hold of any of them.

Such a shard is one network and seed. Each of its trials is a rule with a copy of the network.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from pcworker.fingerprint import fingerprint
from pcworker.store.tables import FinalParameter, WeightRow
from pcworker.trials.digests import combine
from pcworker.trials.trial import Trial


class RuleResult(Protocol):
    """The measurements of one rule. An experiment adds its own to these."""

    @property
    def trial(self) -> Trial[Any]: ...

    @property
    def parameters(self) -> Sequence[FinalParameter]:
        """The final parameters, in an order that is the same for all rules."""


R = TypeVar("R", bound=RuleResult, covariant=True)


@dataclass(frozen=True)
class TurnsResult(Generic[R]):
    """The results of a shard, as a commit needs them: see `pcworker.store.result`."""

    trials: Sequence[R]
    """The measurements of all rules. Plain BP is the first."""
    wall_seconds: float
    updates: int
    """The number of weight updates, of all trials together."""
    packing: str = "alone"
    """It is always "alone": each trial is a network of its own."""
    kernel: None = None

    @property
    def trial_ids(self) -> list[str]:
        return [rule.trial.trial_id for rule in self.trials]

    @property
    def twins(self) -> dict[str, list[str]]:
        """The digest of BP's final weights, by BP's trial id."""
        bp = self.trials[0]
        return {bp.trial.trial_id: [combine(shas(bp.parameters))]}


def shas(parameters: Sequence[FinalParameter]) -> list[str]:
    """The hashes of the parameters."""
    return [parameter.sha256 for parameter in parameters]


def turns_weights(result: TurnsResult[RuleResult]) -> list[WeightRow]:
    """The rows of the table `weights`."""
    return [
        WeightRow(trial_id=rule.trial.trial_id, final=parameter)
        for rule in result.trials
        for parameter in rule.parameters
    ]


def turns_digest(result: TurnsResult[RuleResult]) -> str:
    """A digest of the final weights alone: times never repeat, and weights always do."""
    return fingerprint({rule.trial.trial_id: shas(rule.parameters) for rule in result.trials})
