"""Finds by how much the final weights of two sweeps differ, where their bits do."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import pyarrow.dataset as ds

from cluster.comparison.side import CellKey
from cluster.comparison.verdict import SweepVerdict
from cluster.query.views import Asked, Views, reading_rows
from cluster.sweeps.plan import Plan
from pcworker.store.store import Store

WEIGHTS = "weights"
"""The table of the final parameters."""
_AT_ONCE = 64
"""The number of trials whose weights are in memory at the same time."""

TrialWeights = Mapping[tuple[int, str], np.ndarray | None]
"""The values of a trial's parameters, by layer and name. None where they are not kept."""


class _Pair(NamedTuple):
    """A trial of a cell in both sweeps, by its ids there."""

    key: CellKey
    a: str
    b: str


def with_weights(
    verdict: SweepVerdict, a: tuple[Store, Plan[Any]], b: tuple[Store, Plan[Any]]
) -> SweepVerdict:
    """The verdict with the largest difference of a weight in each cell whose weights differ.

    a, b  the stores and the plans of both sweeps
    """
    left = _pairs(verdict)
    if not left:
        return verdict
    views = [Views(store, Asked((plan,))) for store, plan in (a, b)]  # They keep the files.
    mine, others = (each.rows([WEIGHTS])[WEIGHTS] for each in views)
    apart: dict[CellKey, float] = {}
    for pairs in _batches(left):
        one = _parameters(mine, [pair.a for pair in pairs])
        two = _parameters(others, [pair.b for pair in pairs])
        for pair in pairs:
            found = largest_difference(one.get(pair.a, {}), two.get(pair.b, {}))
            if found is not None:
                apart[pair.key] = max(found, apart.get(pair.key, 0.0))
    return replace(
        verdict,
        cells=tuple(replace(cell, weights_apart=apart.get(cell.key)) for cell in verdict.cells),
    )


def largest_difference(a: TrialWeights, b: TrialWeights) -> float | None:
    """The largest absolute difference of a parameter. None if the parameters of the two are not
    comparable: they have other shapes, or their values are not kept."""
    largest = 0.0
    for place in a.keys() | b.keys():
        one, two = a.get(place), b.get(place)
        if one is None or two is None or len(one) != len(two):
            return None
        largest = max(largest, float(np.max(np.abs(one - two), initial=0.0)))
    return largest if a else None


def _pairs(verdict: SweepVerdict) -> list[_Pair]:
    """The trials whose weights differ in at least one bit."""
    pairs = (
        (cell.key, verdict.a.cells[cell.key][seed], verdict.b.cells[cell.key][seed])
        for cell in verdict.cells
        if WEIGHTS in cell.differing
        for seed in cell.seeds
    )
    return [
        _Pair(key, one.trial_id, two.trial_id)
        for key, one, two in pairs
        if one.digests[WEIGHTS] != two.digests[WEIGHTS]
    ]


def _batches(pairs: Iterable[_Pair]) -> Iterator[Sequence[_Pair]]:
    left = iter(pairs)
    while batch := list(islice(left, _AT_ONCE)):
        yield batch


def _parameters(rows: ds.Dataset, trial_ids: Sequence[str]) -> Mapping[str, TrialWeights]:
    found: dict[str, dict[tuple[int, str], np.ndarray | None]] = {}
    with reading_rows():
        mine = rows.to_table(
            columns=["trial_id", "layer", "parameter", "value"],
            filter=ds.field("trial_id").isin(trial_ids),
        )
    names = zip(*(mine[n].to_pylist() for n in ("trial_id", "layer", "parameter")), strict=True)
    for (trial_id, layer, parameter), value in zip(names, mine["value"], strict=True):
        kept = value.values.to_numpy() if value.is_valid else None
        found.setdefault(trial_id, {})[layer, parameter] = kept
    return found
