"""The results of training the rules of a network: plain values, from the engine to the store."""

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.any_network.configuration import NetworkConfiguration
from pcworker.store.tables import FinalParameter
from pcworker.trials.trial import Trial


@dataclass(frozen=True)
class GraphSizes:
    """The graph that a network was divided into."""

    parameters: int
    """The number of values that learn."""
    vertices: int
    """The number of vertices, without identity vertices."""
    levels: int
    """The number of levels of the levelled graph: the inference steps of an update of Z-IL."""
    identities: int
    """The number of identity vertices that level the graph."""


@dataclass(frozen=True)
class WeightDistance:
    """The difference between the final weights of a rule and those of BP."""

    exact: bool
    """True if every parameter equals BP's, by torch.equal."""
    weight_l2_to_bp: float | None
    """The L2 norm of the difference of all weights as one vector; None if one is not finite."""
    weight_l1_to_bp: float | None
    weight_maxabs_to_bp: float | None


@dataclass(frozen=True)
class Trained:
    """The measurements of one rule."""

    trial: Trial[NetworkConfiguration]
    sizes: GraphSizes
    milliseconds: Sequence[float]
    """The milliseconds of each timed update."""
    peak_bytes: int
    """The most memory that the first update took, with the weights and without the minibatch."""
    finite: bool
    """True if all final weights are finite."""
    to_bp: WeightDistance
    test_error: float | None
    """The share of wrong answers. None for a directory of images, which has no test set."""
    parameters: Sequence[FinalParameter]


@dataclass(frozen=True)
class NetworkResult:
    """The results of a shard."""

    trials: Sequence[Trained]
    """The measurements of all rules. BP is the first."""
    twins: dict[str, list[str]]
    """The digest of BP's final weights, by BP's trial id."""
    wall_seconds: float
    updates: int
    """The number of weight updates, of all trials together."""
    packing: str = "alone"
    """It is always "alone": each trial is a network of its own."""
    kernel: None = None

    @property
    def trial_ids(self) -> list[str]:
        return [trained.trial.trial_id for trained in self.trials]
