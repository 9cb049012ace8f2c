"""The public table `divergence`, which has a row for every declared cell.

The fields of the dataclass are the columns: see `pcworker.row`. The names and the meanings of
columns are a contract with users' queries. A missing value is null.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pcworker.row import Prefix
from pcworker.store.tables import HiddenLayers
from pcworker.trials.configuration import Configuration


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Statistics of one measure over the finite seeds. None where there is no finite seed."""

    mean: float | None
    sd: float | None
    """The standard deviation of the sample; None for one seed, too."""
    min: float | None
    max: float | None


@dataclass(frozen=True, kw_only=True)
class DivergenceRow:
    """How far the trials of a cell end from their BP twins."""

    panel: str
    """One of "t-gamma", "sigma" and "rule"."""
    configuration: Configuration
    hidden_layers: HiddenLayers
    trial_ids: Sequence[str]
    n_seeds: int
    """The number of trials that have a result."""
    n_nonfinite: int
    """The number of those whose weights, or whose twin's, are not finite."""
    test_error: Annotated[Statistics, Prefix("test_error_divergence_")]
    """Of a trial: the mean over epochs of |error - twin's error|, in percentage points."""
    l2: Annotated[Statistics, Prefix("weight_divergence_l2_")]
    """Of a trial: the sum over layers of the L2 norm of the difference of the final weights."""
    weight_divergence_l1_mean: float | None
    weight_divergence_maxabs_max: float | None
    exact: bool | None
    """Whether every final weight of every trial equals the twin's, bit for bit. None without
    results."""
