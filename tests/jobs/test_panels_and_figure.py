"""Tests of the grids, the numbers and the figure that a person sees."""

import io
import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest
from builders import ablation, collected, commit, planned
from rich.console import Console

from cluster.report.terminal import number, numbers_table, print_whole, with_spread
from cluster.sweeps.sweep import Cell
from jobs.mnist_ablation.divergence import Outcome, divergence_row
from jobs.mnist_ablation.drawn.figure import draw_figure3
from jobs.mnist_ablation.panels import (
    MEASURES,
    Grid,
    Value,
    n_seeds,
    positive,
    sigma_grid,
    t_gamma_grids,
)
from jobs.mnist_ablation.report import print_report
from pcworker.row import values
from pcworker.store.local import LocalStore
from pcworker.trials.trial import Trial

ERROR, WEIGHTS = MEASURES
NONFINITE = Outcome(finite=False, exact=False)


def of(error: float, weights: float = 0.0, exact: bool = False) -> Outcome:
    return Outcome(True, exact, test_error=error, l2=weights, l1=weights, maxabs=weights)


def row(cell: Cell, *outcomes: Outcome | None) -> dict[str, Any]:
    ids = (Trial(cell.configuration, seed).trial_id for seed in range(len(outcomes)))
    return values(divergence_row(cell, dict(zip(ids, outcomes, strict=True))))


def outcome_of(cell: Cell) -> Outcome:
    """A plausible outcome: exact at t = l, gamma = 1, sigma = 0; not finite at gamma = 10; else a
    drift."""
    config = cell.configuration
    if cell.gamma == 10 and config.t != 0:
        return NONFINITE
    if config.rule != "IL" and not config.sigma and cell.gamma in (1, None):
        return of(0.0, 0.0, exact=True)
    return of(0.5, 1000.0 * (config.sigma or 0.001))


def rows(**changes: Any) -> list[dict[str, Any]]:
    return [row(cell, outcome_of(cell)) for cell in ablation(**changes).cells]


def one_cell(*outcomes: Outcome | None, measure: str = ERROR) -> Value:
    (cell, _) = ablation(t=[2], gamma=[1.0], sigma=[0.0]).cells
    (grid,) = t_gamma_grids([row(cell, *outcomes)], measure)
    ((value,),) = grid.values
    return value


def at(grid: Grid, name: str, column: str) -> Value:
    return grid.values[grid.rows.index(name)][grid.columns.index(column)]


# Order


@pytest.mark.parametrize(
    ("network", "names"),
    [
        ("784-2-10", ["0", "l", "1", "2", "3", "4", "16"]),  # l_max = 2
        ("784-2-2-10", ["0", "1", "l", "2", "3", "4", "16"]),  # l_max = 3
        ("784-2-2-2-10", ["0", "1", "2", "l", "3", "4", "16"]),  # l_max = 4
    ],
)
def test_t_l_stands_between_l_max_minus_2_and_l_max_minus_1(network: str, names: list[str]) -> None:
    declared = rows(networks=[network], t=[None, 16, 4, 3, 2, 1, 0])
    (grid,) = t_gamma_grids(declared, ERROR)
    assert list(grid.rows) == names


def test_gammas_ascend_from_left_to_right_whatever_order_they_are_declared_in() -> None:
    (grid,) = t_gamma_grids(rows(gamma=[10.0, 0.01, 1.0, 0.5]), ERROR)
    assert grid.columns == ("0.01", "0.5", "1", "10")
    assert (grid.row_name, grid.column_name) == ("t", "gamma")


def test_there_is_one_grid_per_network_the_shallow_ones_first() -> None:
    declared = rows(networks=["784-2-2-10", "784-3-10", "784-2-10"])
    grids = t_gamma_grids(declared, ERROR)
    assert [grid.title for grid in grids] == ["784-3-10", "784-2-10", "784-2-2-10"]


def test_the_sigma_panel_has_networks_across_and_sigma_down() -> None:
    declared = rows(networks=["784-2-2-10", "784-2-10"], sigma=[1.0, 0.0, 1e-4])
    grid = sigma_grid(declared, WEIGHTS)
    assert grid is not None
    assert grid.rows == ("0", "0.0001", "1")
    assert grid.columns == ("784-2-10", "784-2-2-10")
    assert at(grid, "0", "784-2-10") == Value("value", 0.0, exact=True)
    assert at(grid, "1", "784-2-2-10") == Value("value", 1000.0)


def test_settings_that_differ_between_joined_sweeps_are_grids_of_their_own() -> None:
    grids = t_gamma_grids([*rows(), *rows(dtype="float64")], ERROR)
    assert [g.title for g in grids] == ["784-2-10, dtype float32", "784-2-10, dtype float64"]


def test_cells_of_several_sigmas_are_grids_of_their_own() -> None:
    """Two sweeps have one cell each, and neither cell may hide the other. Oracle: both values."""
    cells = [ablation(t=[2], gamma=[1.0], sigma=[sigma]).cells[0] for sigma in (0.0, 0.5)]
    declared = [row(cell, of(k)) for k, cell in enumerate(cells, 1)]
    grids = t_gamma_grids(declared, ERROR)
    assert [grid.title for grid in grids] == ["784-2-10, sigma 0.0", "784-2-10, sigma 0.5"]
    assert [grid.values for grid in grids] == [((Value("value", 1.0),),), ((Value("value", 2.0),),)]
    assert [grid.title for grid in t_gamma_grids(declared[1:], ERROR)] == ["784-2-10"]


def test_values_stand_where_their_cell_is_declared() -> None:
    (grid,) = t_gamma_grids(rows(), WEIGHTS)
    assert grid.rows == ("0", "l", "16")
    assert at(grid, "l", "1") == Value("value", 0.0, exact=True)
    assert at(grid, "l", "10") == Value("nonfinite")
    assert at(grid, "0", "1") == at(grid, "0", "10") == Value("value", 1.0)


def test_each_measure_has_its_own_values() -> None:
    shown = of(2.0, weights=5.0)
    assert one_cell(shown, measure=ERROR).value == 2.0
    assert one_cell(shown, measure=WEIGHTS).value == 5.0


# States


def test_a_cell_without_trials_is_missing() -> None:
    assert one_cell() == one_cell(None) == one_cell(None, None) == Value("missing")


def test_a_cell_whose_only_result_is_not_finite_is_non_finite_and_not_missing() -> None:
    assert one_cell(NONFINITE, None) == Value("nonfinite")


def test_each_cell_is_partial_by_the_seeds_that_it_was_declared_for_itself() -> None:
    """One sweep has one seed and the other two. A cell is complete with its own sweep's seeds."""
    one, two = ablation(t=[1, 2], gamma=[1.0]).cells[:2]
    (grid,) = t_gamma_grids([row(one, of(1.0)), row(two, of(1.0), of(3.0))], ERROR)
    assert [value.partial for (value,) in grid.values] == [False, False]


def test_the_number_of_seeds_is_that_of_the_declared_ones() -> None:
    cell = ablation().cells[0]
    assert n_seeds([row(cell, of(1.0), None, None), row(cell, NONFINITE)]) == 3
    assert n_seeds([row(cell, None)]) == 1
    assert n_seeds([]) == 0


def test_a_cell_that_nobody_declared_is_missing() -> None:
    declared = [r for r in rows() if (r["t"], r["gamma"]) != (16, 1.0)]
    (grid,) = t_gamma_grids(declared, ERROR)
    assert at(grid, "16", "1") == Value("missing")
    assert at(grid, "16", "10") == Value("nonfinite")


def test_a_cell_of_which_no_seed_is_finite_is_non_finite() -> None:
    assert one_cell(NONFINITE, NONFINITE) == Value("nonfinite")


@pytest.mark.parametrize(
    ("outcomes", "partial", "sd"),
    [
        ((of(1.0), of(3.0)), False, math.sqrt(2)),
        ((of(2.0), None), True, None),  # a seed is missing
        ((None, of(1.0), of(3.0)), True, math.sqrt(2)),
        ((of(2.0), NONFINITE), True, None),
        ((of(2.0),), False, None),  # it was declared for one seed
    ],
)
def test_a_mean_over_not_all_of_the_seeds_is_partial(
    outcomes: tuple[Outcome | None, ...], partial: bool, sd: float | None
) -> None:
    assert one_cell(*outcomes) == Value("value", 2.0, partial=partial, sd=sd)


def test_zero_divergence_of_the_test_error_is_not_called_exact_unless_the_weights_are() -> None:
    assert one_cell(of(0.0, weights=0.1)) == Value("value", 0.0, exact=False)
    assert one_cell(of(0.0, exact=True)) == Value("value", 0.0, exact=True)


def test_no_sigma_cells_no_sigma_panel() -> None:
    declared = [row for row in rows() if row["panel"] != "sigma"]
    assert sigma_grid(declared, ERROR) is None
    assert t_gamma_grids([row for row in rows() if row["panel"] == "rule"], ERROR) == []


def test_the_scale_spans_the_values_above_zero_only() -> None:
    assert set(positive(t_gamma_grids(rows(), WEIGHTS))) == {1.0}


def test_the_scale_does_not_span_infinity() -> None:
    cells = ablation(t=[2], gamma=[1.0, 2.0]).cells[:2]
    declared = [row(cell, of(value)) for cell, value in zip(cells, (3.0, math.inf), strict=True)]
    assert positive(t_gamma_grids(declared, ERROR)) == [3.0]


# Numbers


@pytest.mark.parametrize("value", [5e-324, 1e-300, 1e-17, 1e-6, 0.00099, 0.001, 0.5, 1e9, 1e308])
def test_nothing_but_zero_is_printed_as_zero(value: float) -> None:
    assert float(number(value)) > 0
    assert float(number(value)) == pytest.approx(value, rel=0.06)


def test_infinity_is_printed_as_inf() -> None:
    assert number(math.inf) == "inf"


def test_zero_is_printed_as_0_0() -> None:
    assert number(0.0) == "0.0"


@pytest.mark.parametrize(
    ("mean", "sd", "shown"),
    [
        (5.97, 0.2, "5.97 ± 0.20"),
        (24.12, 2.04, "24.1 ± 2.0"),
        (0.3291, 0.0789, "0.329 ± 0.079"),
        (8.2, 12.3, "8 ± 12"),
        (403.2, 151.0, "403 ± 151"),
        (4.0e8, 1.2e8, "4.0e+08 ± 1.2e+08"),
        (0.0008, 0.00144, "8.0e-04 ± 1.4e-03"),
        (0.0025, 4e-16, "0.0025 ± 4.0e-16"),
        (4.82, 0.0, "4.82 ± 0"),
        (4.82, None, "4.82"),
        (0.0, 0.0, "0.0"),
        (math.inf, None, "inf"),
    ],
)
def test_a_mean_has_the_digits_that_its_spread_allows(
    mean: float, sd: float | None, shown: str
) -> None:
    assert with_spread(mean, sd) == shown


@pytest.mark.parametrize("width", [20, 40, 1000])
def test_a_table_that_is_too_wide_goes_on_below_and_no_number_is_cut(width: int) -> None:
    table = numbers_table("name", [f"column {k}" for k in range(9)])
    table.add_row("first", *(f"1234.{k}" for k in range(9)))
    table.add_row("other", *(f"5678.{k}" for k in range(9)))
    sink = io.StringIO()
    print_whole(Console(width=width, file=sink), table)
    lines = sink.getvalue().splitlines()
    assert max(map(len, lines)) <= max(width, 22)
    words = " ".join(lines).split()
    assert [word for word in words if word.startswith("1234.")] == [f"1234.{k}" for k in range(9)]
    assert [word for word in words if word.startswith("5678.")] == [f"5678.{k}" for k in range(9)]
    assert words.count("first") == words.count("other") == {20: 9, 40: 5, 1000: 1}[width]


@pytest.mark.parametrize("drift", [0.0, 2.0**-60])
def test_only_an_exact_cell_shows_0_0(tmp_path: Path, drift: float) -> None:
    """The second drift changes a weight that is 0, and no test error."""
    store = LocalStore(tmp_path)
    plan = planned(store, ablation(sigma=[0.0, 0.5]), "a")
    for shard in plan.shards:
        commit(store, plan, shard, lambda trial: drift if trial.configuration.sigma else 0.0)
    sink = io.StringIO()
    print_report(Console(width=200, file=sink), collected(store, "a"))
    errors, weights = (
        line
        for line in sink.getvalue().splitlines()
        if line.startswith("    ") and line.split()[:1] == ["0.5"]
    )
    assert errors.split("0.5")[1].split() == (["0", "≠"] if drift else ["0.0"])
    assert (weights.split()[1] == "0.0") == (not drift)
    assert ("0 ≠: the mean is 0, but" in sink.getvalue()) == bool(drift)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (12.345, "12.3"),
        (0.00123456, "0.00123"),
        (123.45, "123"),
        (9999.0, "9999"),
        (12345.0, "1.2e+04"),
        (0.000999, "1.0e-03"),
        (math.nextafter(0.001, 1), "0.001"),
    ],
)
def test_numbers_have_three_digits_at_most_where_that_is_readable(value: float, text: str) -> None:
    assert number(value) == text


# The figure


@pytest.fixture(scope="module")
def figure() -> dict[str, bytes]:
    """The figure of `rows()`."""
    return draw_figure3(rows())


def test_the_figure_is_a_png_and_an_svg(figure: dict[str, bytes]) -> None:
    assert set(figure) == {"png", "svg"}
    height, width, _ = matplotlib.image.imread(io.BytesIO(figure["png"]), format="png").shape
    assert min(height, width) > 500
    assert ElementTree.fromstring(figure["svg"]).tag == "{http://www.w3.org/2000/svg}svg"


def test_the_figure_names_its_axes_and_its_row_t_l(figure: dict[str, bytes]) -> None:
    svg = figure["svg"].decode()
    for text in ("784-2-10", "t = l", "non-finite", "missing", "mean over 1 seed"):
        assert text in svg


def test_a_figure_of_two_networks_counts_the_declared_seeds_also_where_results_are_missing() -> (
    None
):
    networks = ["784-2-10", "784-2-2-10"]
    declared = [row(cell, outcome_of(cell), None) for cell in ablation(networks=networks).cells]
    svg = draw_figure3(declared)["svg"].decode()
    for text in (*networks, "mean over 2 seeds"):
        assert text in svg


def test_an_infinite_divergence_is_drawn_as_inf_beside_finite_ones() -> None:
    cells = ablation(t=[2], gamma=[1.0, 2.0]).cells[:2]
    declared = [row(cell, of(v, v)) for cell, v in zip(cells, (3.0, math.inf), strict=True)]
    svg = draw_figure3(declared)["svg"].decode()
    assert ">inf<" in svg
    assert ">3<" in svg


def test_the_same_rows_give_the_same_files(figure: dict[str, bytes]) -> None:
    assert draw_figure3(rows()) == figure


SMALLEST, LARGEST = 5e-324, 1.7e308


@pytest.mark.parametrize("value", [None, 0.0, SMALLEST, 1e-17, 3.0, LARGEST, math.inf])
def test_a_figure_of_one_value_can_be_drawn_and_is_another_one(
    figure: dict[str, bytes], value: float | None
) -> None:
    cells = ablation(t=[2], gamma=[1.0], sigma=[0.0]).cells
    means = dict.fromkeys((f"{ERROR}_mean", f"{WEIGHTS}_mean"), value)
    drawn = draw_figure3([{**row(cell, of(1.0)), **means} for cell in cells])
    assert set(drawn) == {"png", "svg"}
    assert drawn["svg"] != figure["svg"]


def test_a_figure_of_missing_cells_can_be_drawn() -> None:
    assert set(draw_figure3([row(cell) for cell in ablation().cells])) == {"png", "svg"}


def test_without_panels_there_is_no_figure() -> None:
    assert draw_figure3([]) == {}
    assert draw_figure3(rows(rules=["BP", "Fa-Z-IL"])) == {}
