"""Computes how far learning drifts from backpropagation, from what the trials measured."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from cluster.results.committed import Portion
from cluster.sweeps.plan import Plan
from cluster.sweeps.sweep import Cell
from jobs.mnist_ablation.tables import DivergenceRow, Statistics
from pcworker.trials.digests import combine

_DISTANCES = {
    "l2": "weight_l2_to_twin",
    "l1": "weight_l1_to_twin",
    "maxabs": "weight_maxabs_to_twin",
}
"""The columns of the table `epochs` from whose last row the fields of an outcome are."""
DIVERGENCE_READS = {
    "epochs": ("trial_id", "epoch", "test_error", "twin_test_error", *_DISTANCES.values()),
    "weights": ("trial_id", "layer", "parameter", "sha256"),
}
"""The columns of the trials' tables from which the divergence is computed."""


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


def divergence_rows(plans: Sequence[Plan], portions: Iterable[Portion]) -> Iterator[DivergenceRow]:
    """Makes the rows of the table `divergence`, one for each declared cell of the plans."""
    outcomes = _Outcomes(portions)
    ids: dict[Any, dict[int, str]] = defaultdict(dict)
    declared: dict[Cell, dict[int, None]] = defaultdict(dict)
    for plan in plans:
        for trial in plan.trials:
            ids[trial.configuration][trial.seed] = trial.trial_id
        for cell in plan.cells:
            declared[cell] |= dict.fromkeys(plan.seeds)
    for cell, seeds in declared.items():
        mine = ids[cell.configuration]
        yield divergence_row(cell, outcomes.of([mine[seed] for seed in seeds]))


def measured(epochs: pa.Table) -> pa.Table:
    """The measures of trials, from their rows of the table `epochs` in any order. Each trial has a
    row with its id and the fields of `Outcome` but `exact`."""
    rows = epochs.sort_by([("trial_id", "ascending"), ("epoch", "ascending")])
    starts, ends = _runs(rows["trial_id"])
    there = pc.and_(pc.is_valid(rows["test_error"]), pc.is_valid(rows["twin_test_error"]))
    finite = np.minimum.reduceat(there.to_numpy(), starts) if len(starts) else np.array([], bool)
    apart = pc.abs(pc.subtract(rows["test_error"], rows["twin_test_error"])).to_pylist()
    runs = zip(finite, starts, ends, strict=True)
    last = rows.take(ends - 1)
    distances = {
        name: pc.if_else(pa.array(finite, pa.bool_()), last[column].combine_chunks(), None)
        for name, column in _DISTANCES.items()
    }
    return pa.table(
        {
            "trial_id": last["trial_id"],
            "finite": pa.array(finite, pa.bool_()),
            "test_error": pa.array(
                # `mean` rounds once, however many epochs there are.
                [100 * mean(apart[a:b]) if is_finite else None for is_finite, a, b in runs],
                pa.float64(),
            ),
            **distances,
        }
    )


class _Outcomes:
    """The outcomes of all trials with a result, in columns."""

    def __init__(self, portions: Iterable[Portion]) -> None:
        parts = [_outcomes(portion) for portion in portions]
        self._table = pa.concat_tables(parts) if parts else None
        ids = [] if self._table is None else self._table["trial_id"].to_numpy().astype(bytes)
        self._order = np.argsort(ids)
        self._ids = np.asarray(ids, bytes)[self._order]

    def of(self, trial_ids: Sequence[str]) -> dict[str, Outcome | None]:
        """The outcomes of some trials, by id; None for a trial without a result."""
        if self._table is None or not len(self._ids):
            return dict.fromkeys(trial_ids)
        asked = np.asarray(trial_ids, bytes)
        places = np.minimum(np.searchsorted(self._ids, asked), len(self._ids) - 1)
        there = self._ids[places] == asked
        rows = self._table.drop_columns("trial_id").take(self._order[places]).to_pylist()
        found = zip(trial_ids, there, rows, strict=True)
        return {each: Outcome(**row) if is_there else None for each, is_there, row in found}


def _outcomes(portion: Portion) -> pa.Table:
    """The outcomes of a portion's trials, with their ids.

    A trial is exact if its weights have the digest of the twin that its own shard trained.
    """
    made = measured(portion.rows("epochs", DIVERGENCE_READS["epochs"]))
    twins = {trial.trial_id: trial.twin_id for trial in portion.trials}
    digests = _twin_digests(portion.entries)
    weights = _weight_digests(portion.rows("weights", DIVERGENCE_READS["weights"]))
    exact = [
        finite and weights.get(each) == digests.get((each, twins[each]))
        for each, finite in zip(*(made[n].to_pylist() for n in ("trial_id", "finite")), strict=True)
    ]
    return made.append_column("exact", pa.array(exact, pa.bool_()))


def _twin_digests(entries: pa.Table) -> dict[tuple[str, str], str]:
    """The digest of a twin's final weights, by the ids of a trial of the same shard and of the
    twin."""
    columns = (entries[name].to_pylist() for name in ("trial_ids", "twins", "last_digests"))
    return {
        (trial, twin): digest
        for trials, twins, digests in zip(*columns, strict=True)
        for twin, digest in zip(twins, digests, strict=True)
        for trial in trials
    }


def _weight_digests(weights: pa.Table) -> dict[str, str]:
    """The digest of all final weights of a trial, by its id."""
    by = [("trial_id", "ascending"), ("layer", "ascending"), ("parameter", "descending")]
    rows = weights.sort_by(by)  # layer by layer, and "weight" before "bias"
    shas, starts, ends = rows["sha256"].to_pylist(), *_runs(rows["trial_id"])
    ids = rows["trial_id"].take(pa.array(starts)).to_pylist()
    return {i: combine(shas[a:b]) for i, a, b in zip(ids, starts, ends, strict=True)}


def _runs(values: pa.ChunkedArray) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The first place of each run of equal values, and the place after it."""
    codes = values.combine_chunks().dictionary_encode().indices.to_numpy()
    edges = np.flatnonzero(np.diff(codes, prepend=-1, append=-1))
    return edges[:-1], edges[1:]
