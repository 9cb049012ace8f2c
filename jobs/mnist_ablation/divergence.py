"""Computes how far learning drifts from backpropagation, from what the trials measured."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import pyarrow as pa

from cluster.sweeps.plan import Plan
from cluster.sweeps.sweep import Cell
from jobs.mnist_ablation.tables import DivergenceRow, Statistics
from pcworker.row import Row
from pcworker.store.commit import Commit
from pcworker.trials.digests import combine


@dataclass(frozen=True)
class Outcome:
    """The divergence of one trial from its twin."""

    finite: bool
    """True if the trial and its twin stay finite. Otherwise the measures are None."""
    exact: bool
    """True if every final weight equals the twin's, bit for bit."""
    test_error: float | None = None
    """The mean over epochs of |test error - twin's test error|, in percentage points."""
    l2: float | None = None
    """The sum over layers of the L2 norm of the difference of the final weights."""
    l1: float | None = None
    maxabs: float | None = None


def outcome(epochs: Sequence[Mapping[str, Any]], exact: bool) -> Outcome:
    """The outcome of a trial from its rows of the table `epochs`, in the order of the epochs."""
    last = epochs[-1]
    if any(row["test_error"] is None or row["twin_test_error"] is None for row in epochs):
        return Outcome(finite=False, exact=False)
    return Outcome(
        finite=True,
        exact=exact,
        test_error=100 * mean(abs(row["test_error"] - row["twin_test_error"]) for row in epochs),
        l2=last["weight_l2_to_twin"],
        l1=last["weight_l1_to_twin"],
        maxabs=last["weight_maxabs_to_twin"],
    )


def divergence_row(cell: Cell, outcomes: Mapping[str, Outcome | None]) -> DivergenceRow:
    """Makes the row of a cell in the table `divergence`.

    outcomes  the outcomes of the cell's trials, by trial id; None for a trial without a result

    Means are over the finite seeds, and None if there is none. The standard deviation is the
    sample's, and None for one seed. `exact` is None if no trial has a result.
    """
    there = [o for o in outcomes.values() if o is not None]
    finite = [o for o in there if o.finite]
    l1 = [o.l1 for o in finite if o.l1 is not None]
    largest = [o.maxabs for o in finite if o.maxabs is not None]
    return DivergenceRow(
        panel=cell.panel,
        configuration=cell.declared,
        hidden_layers=cell.declared.hidden_layers,
        trial_ids=list(outcomes),
        n_seeds=len(there),
        n_nonfinite=len(there) - len(finite),
        test_error=_statistics(o.test_error for o in finite),
        l2=_statistics(o.l2 for o in finite),
        weight_divergence_l1_mean=mean(l1) if l1 else None,
        weight_divergence_maxabs_max=max(largest, default=None),
        exact=all(o.exact for o in there) if there else None,
    )


def _statistics(values: Iterable[float | None]) -> Statistics:
    there = [value for value in values if value is not None]
    return Statistics(
        mean=mean(there) if there else None,
        sd=stdev(there) if len(there) > 1 and max(there) < math.inf else None,
        min=min(there, default=None),
        max=max(there, default=None),
    )


def divergence_rows(
    plans: Sequence[Plan], tables: Mapping[str, pa.Table], commits: Iterable[Commit]
) -> list[DivergenceRow]:
    """Makes the rows of the table `divergence`, one for each declared cell of the plans."""
    twins = {trial.trial_id: trial.twin.trial_id for plan in plans for trial in plan.trials}
    outcomes = _outcomes(tables, commits, twins)
    declared: dict[Cell, dict[str, Outcome | None]] = defaultdict(dict)
    for plan in plans:
        for cell in plan.cells:
            declared[cell] |= {each: outcomes.get(each) for each in plan.trial_ids(cell)}
    return [divergence_row(cell, trials) for cell, trials in declared.items()]


def _outcomes(
    tables: Mapping[str, pa.Table], commits: Iterable[Commit], twins: Mapping[str, str]
) -> dict[str, Outcome]:
    """The outcomes of all trials with a result, by trial id.

    A trial is exact if its weights have the digest of the twin that its own shard trained.

    twins  the id of each trial's twin, by the trial's id
    """
    last_digests = {
        (commit.shard_id, commit.attempt_id, twin): digests[-1]
        for commit in commits
        for twin, digests in commit.twins.items()
    }
    shas, epochs = parameter_shas(tables), epochs_of_trials(tables)
    outcomes = {}
    for row in tables["trials"].to_pylist():
        trial_id = row["trial_id"]
        if trial_id not in epochs:  # Its shard has failed.
            continue
        twin = last_digests.get((row["shard_id"], row["attempt_id"], twins[trial_id]))
        outcomes[trial_id] = outcome(epochs[trial_id], combine(shas[trial_id]) == twin)
    return outcomes


def parameter_shas(tables: Mapping[str, pa.Table]) -> Mapping[str, list[str]]:
    """The sha256 of the final parameters, layer by layer, weight before bias, by trial id."""
    shas: Mapping[str, list[str]] = defaultdict(list)
    weights = tables["weights"].select(["trial_id", "layer", "parameter", "sha256"]).to_pylist()
    for row in sorted(weights, key=lambda row: (row["layer"], row["parameter"] != "weight")):
        shas[row["trial_id"]].append(row["sha256"])
    return shas


def epochs_of_trials(tables: Mapping[str, pa.Table]) -> Mapping[str, list[Row]]:
    """The rows of the table `epochs`, from the first epoch on, by trial id."""
    epochs: Mapping[str, list[Row]] = defaultdict(list)
    for row in sorted(tables["epochs"].to_pylist(), key=lambda row: row["epoch"]):
        epochs[row["trial_id"]].append(row)
    return epochs
