"""Tests of the divergence from BP. Oracle: closed forms, worked out by hand beside each test."""

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from builders import tiny

from cluster.sweeps.sweep import Cell
from jobs.mnist_ablation.divergence import Outcome, divergence_row, measured
from pcworker.row import values
from pcworker.trials.measures import distance

CELL = Cell("t-gamma", tiny("IL", t=1, gamma=0.5), 0.5)
STATISTICS = [
    f"{measure}_{statistic}"
    for measure in ("test_error_divergence", "weight_divergence_l2")
    for statistic in ("mean", "sd", "min", "max")
] + ["weight_divergence_l1_mean", "weight_divergence_maxabs_max"]


def epoch(error: float | None, twin: float | None, distance: float | None = 0.0) -> dict[str, Any]:
    return {
        "test_error": error,
        "twin_test_error": twin,
        "weight_l2_to_twin": distance,
        "weight_l1_to_twin": None if distance is None else 2 * distance,
        "weight_maxabs_to_twin": None if distance is None else distance / 2,
    }


def of(value: float, exact: bool = False) -> Outcome:
    return Outcome(True, exact, test_error=value, l2=2 * value, l1=3 * value, maxabs=4 * value)


def outcome(epochs: list[dict[str, Any]], exact: bool) -> Outcome:
    """The outcome of a trial, whose rows stand between those of others."""
    rows = [
        {"trial_id": trial, "epoch": place, **values}
        for place, values in reversed(list(enumerate(epochs, 1)))
        for trial, values in (("a", epoch(0.0, 1.0)), ("b", values), ("c", epoch(None, None, None)))
    ]
    schema = pa.schema([("trial_id", pa.string()), ("epoch", pa.int32())]
                       + [(name, pa.float64()) for name in epochs[0]])  # fmt: skip
    others, mine = [], None
    for row in measured(pa.Table.from_pylist(rows, schema=schema)).to_pylist():
        trial = row.pop("trial_id")
        made = Outcome(exact=exact and row["finite"], **row)
        mine, others = (made, others) if trial == "b" else (mine, [*others, made])
    assert [each.test_error for each in others] == [100.0, None]
    assert mine is not None
    return mine


NONFINITE = Outcome(finite=False, exact=False)


def row(*outcomes: Outcome | None) -> dict[str, Any]:
    return values(divergence_row(CELL, {str(k): outcome for k, outcome in enumerate(outcomes)}))


# One trial


def test_the_test_error_diverges_by_the_mean_over_epochs_of_the_absolute_difference() -> None:
    # |0.5 - 0.25| is 25 points and |0.125 - 0.25| is 12.5 points. The mean is 18.75, not 6.25.
    made = outcome([epoch(0.5, 0.25), epoch(0.125, 0.25)], exact=False)
    assert made.test_error == 18.75


def test_weights_diverge_by_the_distance_after_the_last_epoch() -> None:
    made = outcome([epoch(0.5, 0.5, 1000.0), epoch(0.5, 0.5, 3.0)], exact=False)
    assert (made.l2, made.l1, made.maxabs) == (3.0, 6.0, 1.5)


def test_an_exact_trial_has_no_divergence_at_all() -> None:
    made = outcome([epoch(0.3, 0.3, 0.0), epoch(0.1, 0.1, 0.0)], exact=True)
    assert made == Outcome(True, True, test_error=0.0, l2=0.0, l1=0.0, maxabs=0.0)


@pytest.mark.parametrize(
    "epochs",
    [
        [epoch(None, None, None)],
        [epoch(0.5, 0.25), epoch(None, None, None)],
        [epoch(0.5, 0.25), epoch(0.5, None, None)],  # the twin is not finite
    ],
)
def test_a_trial_that_is_not_finite_or_has_no_finite_twin_has_no_measures(
    epochs: list[dict[str, Any]],
) -> None:
    assert outcome(epochs, exact=True) == NONFINITE


# Two networks


@pytest.mark.parametrize("scale", [1.0, 2.0**-500, 2.0**511, 2.0**532, 2.0**1000])
def test_the_distance_of_two_networks_is_finite_also_where_its_squares_overflow(
    scale: float,
) -> None:
    # The differences of each layer are 3, 4, 0, so |3| + |4| = 7 and sqrt(9 + 16) = 5. 2^532 is
    # about 1e160.
    zero = [[np.zeros((1, 2)), np.zeros(1)], [np.zeros((3, 1))]]
    away = [[np.array([[3.0, -4.0]]), np.zeros(1)], [np.array([[0.0], [4.0], [3.0]])]]
    made = distance([[p * scale for p in layer] for layer in away], zero)
    assert made == (10 * scale, 14 * scale, 4 * scale)
    assert distance(zero, [[p * scale for p in layer] for layer in away]) == made


def test_the_distance_of_float32_networks_is_taken_in_float64() -> None:
    # Both are near the largest float32 number. Their difference is too large for float32.
    largest = np.full((2, 2), 2.0**127, np.float32)
    assert distance([[largest]], [[-largest]]) == (2.0**129, 2.0**130, 2.0**128)


def test_a_layers_bias_belongs_to_its_norm() -> None:
    zero, away = np.zeros((1, 1)), np.array([[3.0]])
    together = distance([[away, np.array([4.0])]], [[zero, np.zeros(1)]])
    apart = distance([[away], [np.array([[4.0]])]], [[zero], [zero]])
    assert (together.l2, apart.l2) == (5.0, 7.0)


# One cell


def test_seeds_without_a_result_are_declared_but_not_counted() -> None:
    made, without = row(of(1.0), None, of(3.0), None), row(of(1.0), of(3.0))
    assert made["trial_ids"] == ["0", "1", "2", "3"]
    assert (made["n_seeds"], made["n_nonfinite"], made["exact"]) == (2, 0, False)
    assert {name: made[name] for name in STATISTICS} == {n: without[n] for n in STATISTICS}
    assert row(None, of(0.0, exact=True))["exact"] is True


def test_a_cell_of_which_no_seed_has_a_result_is_a_row_of_nothing() -> None:
    made = row(None, None)
    assert made == row() | {"trial_ids": ["0", "1"]}


def test_an_infinite_divergence_has_a_mean_and_extremes_but_no_sd() -> None:
    made = row(of(1.0), of(math.inf))
    for measure, least in (("test_error_divergence", 1.0), ("weight_divergence_l2", 2.0)):
        assert made[f"{measure}_mean"] == made[f"{measure}_max"] == math.inf
        assert (made[f"{measure}_min"], made[f"{measure}_sd"]) == (least, None)
    assert made["weight_divergence_l1_mean"] == made["weight_divergence_maxabs_max"] == math.inf
    assert (made["n_seeds"], made["n_nonfinite"], made["exact"]) == (2, 0, False)
    assert row(of(math.inf), of(math.inf))["test_error_divergence_sd"] is None


def test_the_statistics_of_huge_divergences_do_not_overflow() -> None:
    # The mean is 2 and the sd is sqrt(((1-2)^2 + (3-2)^2) / 1), both times 2^1000.
    made = row(of(2.0**1000), of(3 * 2.0**1000))
    assert made["test_error_divergence_mean"] == 2.0**1001
    assert made["test_error_divergence_sd"] == pytest.approx(math.sqrt(2) * 2.0**1000, rel=1e-15)


def test_three_seeds_have_a_mean_a_sample_sd_and_extremes() -> None:
    made = row(of(1.0), of(2.0), of(4.0))
    # The mean is 7/3. The squared deviations 16/9 + 1/9 + 25/9 are 14/3, so the variance is 7/3.
    assert made["test_error_divergence_mean"] == pytest.approx(7 / 3, rel=1e-15)
    assert made["test_error_divergence_sd"] == pytest.approx(math.sqrt(7 / 3), rel=1e-15)
    assert made["test_error_divergence_min"] == 1.0
    assert made["test_error_divergence_max"] == 4.0
    assert made["weight_divergence_l2_mean"] == pytest.approx(14 / 3, rel=1e-15)
    assert made["weight_divergence_l2_sd"] == pytest.approx(2 * math.sqrt(7 / 3), rel=1e-15)
    assert made["weight_divergence_l2_min"] == 2.0
    assert made["weight_divergence_l2_max"] == 8.0
    assert made["weight_divergence_l1_mean"] == pytest.approx(7.0, rel=1e-15)
    assert made["weight_divergence_maxabs_max"] == 16.0
    assert (made["n_seeds"], made["n_nonfinite"]) == (3, 0)
    assert made["trial_ids"] == ["0", "1", "2"]


def test_seeds_that_are_not_finite_are_counted_and_left_out_of_the_statistics() -> None:
    made, without = row(of(1.0), NONFINITE, of(3.0)), row(of(1.0), of(3.0))
    assert {name: made[name] for name in STATISTICS} == {n: without[n] for n in STATISTICS}
    assert made["test_error_divergence_mean"] == 2.0
    assert made["test_error_divergence_sd"] == pytest.approx(math.sqrt(2), rel=1e-15)
    assert (made["n_seeds"], made["n_nonfinite"]) == (3, 1)
    assert len(made["trial_ids"]) == 3


def test_one_seed_has_no_sd() -> None:
    for made in (row(of(3.0)), row(of(3.0), NONFINITE)):
        assert made["test_error_divergence_mean"] == 3.0
        assert made["test_error_divergence_min"] == made["test_error_divergence_max"] == 3.0
        assert made["test_error_divergence_sd"] is None
        assert made["weight_divergence_l2_sd"] is None


def test_equal_seeds_have_an_sd_of_exactly_zero() -> None:
    made = row(of(0.25), of(0.25), of(0.25))
    assert made["test_error_divergence_sd"] == 0.0
    assert made["test_error_divergence_mean"] == 0.25


def test_without_a_finite_seed_there_are_no_statistics() -> None:
    made = row(NONFINITE, NONFINITE)
    assert [made[name] for name in STATISTICS] == [None] * len(STATISTICS)
    assert (made["n_seeds"], made["n_nonfinite"], made["exact"]) == (2, 2, False)


def test_a_cell_without_trials_is_a_row_of_nothing() -> None:
    made = row()
    assert [made[name] for name in STATISTICS] == [None] * len(STATISTICS)
    assert (made["n_seeds"], made["n_nonfinite"], made["exact"]) == (0, 0, None)
    assert made["trial_ids"] == []


def test_a_cell_is_exact_if_every_seed_is() -> None:
    assert row(of(0.0, exact=True), of(0.0, exact=True))["exact"] is True
    assert row(of(0.0, exact=True), of(0.0, exact=False))["exact"] is False
    assert row(of(0.0, exact=True), NONFINITE)["exact"] is False


def test_no_distance_is_not_the_same_as_exact() -> None:
    # +0.0 and -0.0 are 0 apart, but their bits differ.
    made = row(of(0.0, exact=False))
    assert made["weight_divergence_l2_mean"] == 0.0
    assert made["exact"] is False


def test_a_row_names_its_cell_with_the_gamma_that_was_declared() -> None:
    made = values(divergence_row(Cell("t-gamma", tiny("IL", t=0), 5.0), {}))
    named = {name: made[name] for name in ("panel", "network", "hidden_layers", "rule", "t")}
    assert named == {
        "panel": "t-gamma", "network": "3-2-2", "hidden_layers": 1, "rule": "IL", "t": 0,
    }  # fmt: skip
    assert made["gamma"] == 5.0
    assert values(divergence_row(Cell("rule", tiny("BP"), None), {}))["gamma"] is None
