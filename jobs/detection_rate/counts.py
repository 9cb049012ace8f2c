"""Counts how often phi spikes at t = l and at other t, from recorded errors alone."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pcworker.row import Int64


@dataclass(frozen=True)
class Counts:
    """The counts of one layer l up to a horizon: numbers of pairs of a neuron and a sample.

    Only `spikes` counts spikes. pairs = spike_at_l + missed_zero + missed_nonzero. The success rate
    is only_at_l / pairs, and a weaker rate is spike_at_l / pairs. The share of all spikes that come
    at t = l is spike_at_l / spikes.
    """

    pairs: Int64
    """All pairs: neurons x samples."""
    spike_at_l: Int64
    """Pairs with phi = 1 at t = l."""
    only_at_l: Int64
    """Pairs with phi = 1 at t = l and at no other t."""
    missed_zero: Int64
    """Pairs with phi = 0 and eps zero at t = l, where Eq. 9 would change nothing."""
    missed_nonzero: Int64
    """Pairs with phi = 0 and eps not zero at t = l."""
    early: Int64
    """Pairs with phi = 1 at some t < l."""
    late: Int64
    """Pairs with phi = 1 at some t > l."""
    missed_late: Int64
    """Pairs with phi = 0 at t = l and phi = 1 at some t > l."""
    spikes: Int64
    """The number of spikes of all pairs at all t."""


def phi(errors: np.ndarray, t_d: int, tolerance: float = 0.0) -> np.ndarray:
    """phi(eps) as bool [steps, ...], for eps [steps, ...] at t = 0, 1, ... (Sec. 4).

    It is 1 where |eps| was at most `tolerance` for the t_d steps before and is larger now. Before
    t = 0 every error counts as 0.
    """
    heard = ~(np.abs(errors) <= tolerance)  # written so that a NaN counts as an error
    steps = np.arange(len(errors)).reshape(-1, *[1] * (errors.ndim - 1))
    latest = np.maximum.accumulate(np.where(heard, steps, -np.inf), axis=0)
    before = np.concatenate([np.full_like(latest[:1], -np.inf), latest[:-1]])
    fires: np.ndarray = heard & (steps - before > t_d)
    return fires


def count(
    errors: np.ndarray, l: int, t_d: int, horizons: Iterable[int], tolerance: float = 0.0
) -> list[Counts]:
    """Counts up to each of the horizons, which must be at least l.

    errors  eps^l [steps, samples, n_l] at t = 0, 1, ..., up to the largest horizon at least
    """
    fires = phi(errors, t_d, tolerance)
    zero = np.abs(errors[l]) <= tolerance
    at_l, early = fires[l], fires[:l].any(0)
    found = []
    for horizon in horizons:
        late = fires[l + 1 : horizon + 1].any(0)
        found.append(
            Counts(
                pairs=at_l.size,
                spike_at_l=_sum(at_l),
                only_at_l=_sum(at_l & ~early & ~late),
                missed_zero=_sum(~at_l & zero),
                missed_nonzero=_sum(~at_l & ~zero),
                early=_sum(early),
                late=_sum(late),
                missed_late=_sum(~at_l & late),
                spikes=_sum(fires[: horizon + 1]),
            )
        )
    return found


def _sum(which: npt.NDArray[np.bool_] | np.bool_) -> int:
    return int(np.count_nonzero(which))
