"""Divergence. Oracle: closed forms, worked out by hand beside each test."""

import math
from typing import Any

import pytest
from builders import tiny

from cluster.divergence import Outcome, divergence_row, outcome
from cluster.sweep import Cell

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


NONFINITE = Outcome(finite=False, exact=False)


def row(*outcomes: Outcome) -> dict[str, Any]:
    return divergence_row(CELL, {str(k): outcome for k, outcome in enumerate(outcomes)})


# One trial


def test_the_test_error_diverges_by_the_mean_over_epochs_of_the_absolute_difference() -> None:
    # |0.5 - 0.25| = 25 points, |0.125 - 0.25| = 12.5 points: the mean is 18.75, not 6.25
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


# One cell


def test_three_seeds_have_a_mean_a_sample_sd_and_extremes() -> None:
    made = row(of(1.0), of(2.0), of(4.0))
    # mean 7/3; squared deviations 16/9 + 1/9 + 25/9 = 14/3, over 2: variance 7/3
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
    # +0.0 and -0.0 are 0 apart and not bit-identical
    made = row(of(0.0, exact=False))
    assert made["weight_divergence_l2_mean"] == 0.0
    assert made["exact"] is False


def test_a_row_names_its_cell_with_the_gamma_that_was_declared() -> None:
    made = divergence_row(Cell("t-gamma", tiny("IL", t=0), 5.0), {})
    named = {name: made[name] for name in ("panel", "network", "hidden_layers", "rule", "t")}
    assert named == {
        "panel": "t-gamma", "network": "3-2-2", "hidden_layers": 1, "rule": "IL", "t": 0,
    }  # fmt: skip
    assert made["gamma"] == 5.0
    assert divergence_row(Cell("rule", tiny("BP"), None), {})["gamma"] is None
