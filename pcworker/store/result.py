"""What a commit needs to know of a shard's results, whatever their experiment is."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Protocol

from pcworker.row import After
from pcworker.trials.trial import Trial


class Result(Protocol):
    """The results of a shard's training."""

    @property
    def trial_ids(self) -> Sequence[str]: ...

    @property
    def twins(self) -> Mapping[str, Sequence[str]]:
        """The digests of all weights of a twin, one after each epoch, by the twin's trial id."""

    @property
    def packing(self) -> str:
        """One of "stacked", "alone" and "irreproducible": see `pcworker.kernels.packing`."""

    @property
    def kernel(self) -> str | None:
        """The kernel that trained the shard, such as "phases.c" or "torch". None where there is no
        choice."""

    @property
    def updates(self) -> int:
        """The number of weight updates, of all trials together."""

    @property
    def wall_seconds(self) -> float: ...


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The columns that say by what a trial's row was made. A trial whose shard has failed has a
    sweep and a shard, and None for the others."""

    sweep: Annotated[str, After("trial_id")]
    shard_id: str
    attempt_id: str | None = None
    hostname: str | None = None
    device: str | None = None
    torch_version: str | None = None
    git_commit: str | None = None


CIRCUMSTANCES = frozenset(
    (*(field.name for field in fields(Origin)), "wall_seconds", "packing_invariant")
)
"""The columns that say what computed a row and how long it took. All other columns are results."""


@dataclass(frozen=True)
class Tables:
    """The tables that the shards of an experiment write."""

    row_types: Mapping[str, type]
    """The dataclass of a table's rows, by the table's name: see `pcworker.row`."""
    per_trial: str
    """The name of the table in which every trial has a row, even one whose shard has failed."""
    planned: Callable[[Any, Origin, str], Any]
    """Makes the row of `per_trial` for a trial without results from the trial, its origin and its
    status: "failed", if its shard has failed."""
    rows: Callable[[Any, Origin], Mapping[str, Iterable[Any]]]
    """Makes the rows of every table, by its name, from a `Result` and its origin."""
    digest: Callable[[Any], str]
    """Digests a `Result`: two attempts have the same digest if and only if their results are equal,
    bit for bit."""
    measured: Sequence[str] = ()
    """The columns of measured times and sizes of memory, of whichever table. They differ each time,
    so that two sweeps are compared by their ratios. The first one is the most important."""


def planned_fields(trial: Trial[Any], origin: Origin, status: str) -> dict[str, Any]:
    """The fields that the row of a trial has in every experiment. Its plan knows them."""
    return {
        "trial_id": trial.trial_id,
        "seed": trial.seed,
        "configuration": trial.configuration,
        "status": status,
        "origin": origin,
        "engine_version": trial.engine_version,
    }
