"""The measurements of a rule, and how they become rows of the public table `networks`.

The fields of the dataclass are the columns: see `pcworker.row`. The names and the meanings of
columns are a contract with users' queries. A missing value is null.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from jobs.any_network.configuration import NetworkConfiguration
from pcworker.clock.turns import Spread, ratios, spread
from pcworker.networks.zoo.facts import graph_facts
from pcworker.row import After, Int64, Prefix, Without
from pcworker.store.in_turns import TurnsResult, turns_digest, turns_weights
from pcworker.store.result import Origin, Tables, planned_fields
from pcworker.store.tables import FinalParameter, WeightRow
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


@dataclass(frozen=True, kw_only=True)
class NetworkRow:
    """A rule on a network. What was measured is None if its shard has failed."""

    trial_id: str
    seed: Int64
    configuration: NetworkConfiguration
    family: Annotated[str, After("network")]
    """"chain", "residual", "recurrent", "attention", or "own" for a user's own network."""
    sizes: GraphSizes | None = None
    device: Annotated[str | None, After("device_kind")]
    status: str
    """One of "done", "nonfinite" and "failed"."""
    to_bp: WeightDistance | None = None
    test_error: float | None = None
    bp_test_error: float | None = None
    milliseconds: Annotated[Spread | None, Prefix("ms_per_update_")] = None
    ratio: Annotated[Spread | None, Prefix("ratio_to_bp_")] = None
    """The ratios to BP are taken turn by turn."""
    peak_memory_bytes: Int64 | None = None
    wall_seconds: float | None = None
    """The seconds that the whole shard took."""
    origin: Annotated[Origin, Without(("device",))]
    engine_version: int


def planned_network(trial: Trial[NetworkConfiguration], origin: Origin, status: str) -> NetworkRow:
    """The part of a trial's row that its plan knows. The results are still missing."""
    known = graph_facts(trial.configuration.network)
    return NetworkRow(
        **planned_fields(trial, origin, status),
        family=known.family if known else "own",
        device=origin.device,
    )


def network_rows(result: TurnsResult[Trained], origin: Origin) -> dict[str, Iterable[object]]:
    """The rows of a shard by table."""
    bp = result.trials[0]
    return {
        "networks": [_network_row(trained, bp, result, origin) for trained in result.trials],
        "weights": turns_weights(result),
    }


NETWORK_TABLES = Tables(
    row_types={"networks": NetworkRow, "weights": WeightRow},
    per_trial="networks",
    planned=planned_network,
    rows=network_rows,
    digest=turns_digest,
)
"""The tables that a shard writes."""


def _network_row(
    trained: Trained, bp: Trained, result: TurnsResult[Trained], origin: Origin
) -> NetworkRow:
    return replace(
        planned_network(trained.trial, origin, "done" if trained.finite else "nonfinite"),
        sizes=trained.sizes,
        to_bp=trained.to_bp,
        test_error=trained.test_error,
        bp_test_error=bp.test_error,
        milliseconds=spread(trained.milliseconds),
        ratio=spread(ratios(trained.milliseconds, bp.milliseconds)),
        peak_memory_bytes=trained.peak_bytes,
        wall_seconds=result.wall_seconds,
    )
