"""How often phi spikes at t = l, and what happens where it does not: from recorded errors alone."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pcworker.row import Int64


@dataclass(frozen=True)
class Counts:
    """Of the neurons of one layer l, each with each sample, up to a horizon. Numbers of such pairs,
    but for `spikes`.

    pairs = spike_at_l + missed_zero + missed_nonzero. The success rate is only_at_l / pairs, the
    weaker rate spike_at_l / pairs; the share of all spikes that come at t = l, spike_at_l / spikes.
    """

    pairs: Int64
    """neurons x samples"""
    spike_at_l: Int64
    """phi = 1 at t = l"""
    only_at_l: Int64
    """phi = 1 at t = l, and at no other t"""
    missed_zero: Int64
    """phi = 0 at t = l, where eps is zero: Eq. 9 would change nothing"""
    missed_nonzero: Int64
    """phi = 0 at t = l, where eps is not zero"""
    early: Int64
    """phi = 1 at some t < l"""
    late: Int64
    """phi = 1 at some t > l"""
    missed_late: Int64
    """phi = 0 at t = l, and 1 at some t > l"""
    spikes: Int64
    """Of all pairs and all t."""


def phi(errors: np.ndarray, t_d: int, tolerance: float = 0.0) -> np.ndarray:
    """phi(eps) bool [steps, ...] for eps [steps, ...] at t = 0, 1, ... (Sec. 4): 1 where |eps| was
    at most `tolerance` for the t_d steps before and now is not. Before t = 0 every error is 0."""
    heard = ~(np.abs(errors) <= tolerance)  # so that NaN is heard
    steps = np.arange(len(errors)).reshape(-1, *[1] * (errors.ndim - 1))
    latest = np.maximum.accumulate(np.where(heard, steps, -np.inf), axis=0)
    before = np.concatenate([np.full_like(latest[:1], -np.inf), latest[:-1]])
    fires: np.ndarray = heard & (steps - before > t_d)
    return fires


def count(
    errors: np.ndarray, l: int, t_d: int, horizons: Iterable[int], tolerance: float = 0.0
) -> list[Counts]:
    """The counts up to each of some horizons, which are at least l.

    errors  eps^l [steps, samples, n_l] at t = 0, 1, ... to the largest horizon or on
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
