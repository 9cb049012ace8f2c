"""The public tables `trials`, `epochs`, `weights` and `failures`, and how results become rows.

The fields of the dataclasses are the columns: see `pcworker.row`. The names and the meanings of
columns are a contract with users' queries. A missing value is null.

To add a column, add a field here and give it its value where the row is made. A new field of
`Configuration` or of `EpochMetrics` is a new column by itself.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Annotated

import numpy as np
import numpy.typing as npt

from pcworker.fingerprint import fingerprint
from pcworker.row import After, Axis, Int64
from pcworker.store.result import Origin, Tables, planned_fields
from pcworker.training.results import EpochMetrics, ShardResult, TrialResult
from pcworker.trials.configuration import Configuration
from pcworker.trials.digests import parameter_sha256
from pcworker.trials.trial import Trial

HiddenLayers = Annotated[int, After("network")]
"""The type of the column `hidden_layers`, which stands beside the network of a configuration."""


@dataclass(frozen=True, kw_only=True)
class TrialRow:
    """A trial. What was measured is None if its shard has failed."""

    trial_id: str
    seed: Int64
    configuration: Configuration
    hidden_layers: HiddenLayers
    status: str
    """One of "done", "nonfinite" and "failed"."""
    nonfinite_epoch: int | None = None
    """The first epoch after which a weight was not finite."""
    updates: Int64 | None = None
    final_test_error: float | None = None
    wall_seconds: float | None = None
    """The seconds that the training of the whole shard took."""
    origin: Origin
    engine_version: int
    packing_invariant: bool | None = None
    """False if the trial does not repeat itself, bit for bit, on the machine that ran it."""


@dataclass(frozen=True, kw_only=True)
class EpochRow:
    """A trial after one epoch."""

    trial_id: str
    seed: Int64
    epoch: Annotated[int, Axis()]
    """1 for the first."""
    metrics: EpochMetrics


@dataclass(frozen=True, kw_only=True)
class FinalParameter:
    """A parameter of a network after its training."""

    layer: Annotated[int, Axis()]
    """l + 1, so 1 is the output layer."""
    parameter: Annotated[str, Axis()]
    """Either "weight" or "bias"."""
    dtype: str
    shape: tuple[int, ...]
    value: npt.NDArray[np.float64] | None
    """Its values in the order of rows, exact for both dtypes; None where they are not kept."""
    sha256: str
    """The hash of its little-endian bytes in its own dtype, with -0 as +0."""


@dataclass(frozen=True, kw_only=True)
class WeightRow:
    """A parameter of a trial. A trial whose weights are not finite has none."""

    trial_id: str
    final: FinalParameter


@dataclass(frozen=True, kw_only=True)
class FailureRow:
    """A failed attempt of a shard."""

    sweep: str
    shard_id: str
    attempt_id: str
    kind: str
    """A `cluster.driver.failures.FailureKind`."""
    quarantined: bool
    """Whether the shard is not tried any more in this submission."""
    error: str
    traceback: str
    driver: str
    """The host of the driver."""
    time: str
    """UTC, ISO 8601."""
    trial_ids: tuple[str, ...]


def final_parameter(
    layer: int, name: str, values: np.ndarray, keeps_values: bool = True
) -> FinalParameter:
    """A parameter as the table `weights` holds it. Its values are copied."""
    return FinalParameter(
        layer=layer,
        parameter=name,
        dtype=str(values.dtype),
        shape=values.shape,
        value=values.astype(np.float64).ravel() if keeps_values else None,
        sha256=parameter_sha256(values),
    )


def planned_trial(trial: Trial, origin: Origin, status: str) -> TrialRow:
    """The part of a trial's row that its plan knows. The results are still missing."""
    return TrialRow(
        **planned_fields(trial, origin, status),
        hidden_layers=trial.configuration.hidden_layers,
    )


def shard_rows(result: ShardResult, origin: Origin) -> dict[str, Iterable[object]]:
    """The rows of a shard by table."""
    return {
        "trials": [_trial_row(trial, result, origin) for trial in result.trials],
        "epochs": [row for trial in result.trials for row in _epoch_rows(trial)],
        "weights": [row for trial in result.trials for row in _weight_rows(trial)],
    }


def result_digest(result: ShardResult) -> str:
    """A digest of the results alone. Two attempts have the same digest if and only if every value
    is the same, bit for bit, whatever ran them and in whatever order."""
    values = [
        [
            trial.trial.trial_id,
            trial.nonfinite_epoch,
            trial.updates,
            [[_bits(v) for v in asdict(metrics).values()] for metrics in trial.epochs],
            [[parameter_sha256(p) for p in layer] for layer in trial.parameters],
        ]
        for trial in sorted(result.trials, key=lambda trial: trial.trial.trial_id)
    ]
    return fingerprint([values, dict(sorted(result.twins.items()))])


SHARD_TABLES = Tables(
    row_types={"trials": TrialRow, "epochs": EpochRow, "weights": WeightRow},
    per_trial="trials",
    planned=planned_trial,
    rows=shard_rows,
    digest=result_digest,
)
"""The tables of a shard of MNIST trainings."""


def _trial_row(trial: TrialResult, result: ShardResult, origin: Origin) -> TrialRow:
    return replace(
        planned_trial(trial.trial, origin, trial.status),
        nonfinite_epoch=trial.nonfinite_epoch,
        updates=trial.updates,
        final_test_error=trial.epochs[-1].test_error,
        wall_seconds=result.wall_seconds,
        packing_invariant=result.packing != "irreproducible",
    )


def _epoch_rows(trial: TrialResult) -> Iterator[EpochRow]:
    for epoch, metrics in enumerate(trial.epochs, 1):
        yield EpochRow(
            trial_id=trial.trial.trial_id, seed=trial.trial.seed, epoch=epoch, metrics=metrics
        )


def _weight_rows(trial: TrialResult) -> Iterator[WeightRow]:
    for l, layer in enumerate(trial.parameters):
        for name, values in zip(("weight", "bias"), layer, strict=False):
            final = final_parameter(l + 1, name, values)
            yield WeightRow(trial_id=trial.trial.trial_id, final=final)


def _bits(value: float | None) -> str | None:
    return None if value is None else value.hex()
