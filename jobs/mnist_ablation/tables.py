"""The public table `divergence`, which has a row for every declared cell.

The fields of the dataclass are the columns: see `pcworker.row`. The names and the meanings of
columns are a contract with users' queries. A missing value is null.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pcworker.row import Axis, Prefix
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
    """The divergence of the trials of one declared cell from their BP twins."""

    panel: Annotated[str, Axis()]
    """One of "t-gamma", "sigma" and "rule"."""
    configuration: Configuration
    hidden_layers: HiddenLayers
    trial_ids: Sequence[str]
    n_seeds: int
    """The number of trials that have a result."""
    n_nonfinite: int
    """The number of those trials whose weights, or whose twin's weights, are not finite."""
    test_error: Annotated[Statistics, Prefix("test_error_divergence_")]
    """The divergence of the test error, in percentage points. A trial's is the mean over epochs of
    |error - twin's error|."""
    l2: Annotated[Statistics, Prefix("weight_divergence_l2_")]
    """The L2 distance of the final weights. A trial's is the sum over layers of the norm of the
    difference."""
    weight_divergence_l1_mean: float | None
    weight_divergence_maxabs_max: float | None
    exact: bool | None
    """True if every final weight of every trial equals the twin's, bit for bit. None without
    results."""
