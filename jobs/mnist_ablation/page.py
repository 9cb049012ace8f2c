"""The ablations on the report page: heat maps of Figure 3, curves, C1 and Table 2."""

import math
from collections.abc import Sequence

from cluster.report.page.parts import (
    SHADES,
    Answered,
    Ask,
    Curve,
    DataTable,
    HeatMap,
    HeatMaps,
    Paragraph,
    Plot,
    Plots,
    Section,
    Shown,
    Tile,
)
from cluster.report.terminal import number
from jobs.mnist_ablation.panels import (
    MEASURES,
    OTHER_ZERO,
    Grid,
    Value,
    colour_range,
    n_seeds,
    positive,
    sigma_grid,
    t_gamma_grids,
)
from jobs.mnist_ablation.properties import properties_section
from pcworker.equations.rules import Z_IL
from pcworker.row import Row

_NUMBERS = 400_000
"""How many numbers the curves of a page may have. Of longer curves every k-th epoch is drawn."""


def ablation_sections(ask: Ask) -> Sequence[Section]:
    """The sections of the page."""
    cells = ask(_CELLS)
    heat = [_measure(cells, measure, words) for measure, words in MEASURES.items()]
    return [
        *(section for section in heat if section),
        *_curves(ask, cells),
        properties_section(ask),
        _table(ask),
    ]


_CELLS = """
    WITH seeds AS (
      SELECT cell, list(DISTINCT seed ORDER BY seed) AS seeds
      FROM (SELECT DISTINCT trial_ids[1] AS cell, unnest(trial_ids) AS trial_id FROM divergence)
      JOIN trials USING (trial_id)
      GROUP BY cell
    )
    SELECT d.* EXCLUDE (sweep, weight_divergence_l1_mean, weight_divergence_maxabs_max), seeds
    FROM (SELECT *, trial_ids[1] AS cell FROM divergence) d LEFT JOIN seeds USING (cell)
    WHERE panel IN ('t-gamma', 'sigma')
    ORDER BY panel DESC, hidden_layers, network, sigma, gamma, t NULLS FIRST, cell
"""


def _measure(cells: Answered, measure: str, words: str) -> Section | None:
    """The heat maps of one measure. None if the sweep has no cell for one."""
    grids = t_gamma_grids(cells.rows, measure)
    if sigma := sigma_grid(cells.rows, measure):
        grids.append(sigma)
    if not grids:
        return None
    low, high = colour_range(values := positive(grids))
    places = {id(row): place for place, row in enumerate(cells.rows)}
    told = {
        f"{measure}_mean": "mean", f"{measure}_sd": "standard deviation",
        f"{measure}_min": "smallest", f"{measure}_max": "largest", "exact": "BP, bit for bit",
        "n_seeds": "seeds with a result", "n_nonfinite": "of them not finite", "seeds": "seeds",
        "rule": "rule", "t": "t", "gamma": "gamma", "sigma": "sigma",
    }  # fmt: skip
    steps = [low * (high / low) ** (k / SHADES) for k in range(SHADES)] if values else []
    maps = tuple(_map(grid, low, high, places) for grid in grids)
    answered = HeatMaps(maps, cells, told, "cell", tuple(map(number, steps)))
    text = (
        f"Each cell shows a mean over its seeds (at most {n_seeds(cells.rows)}), with colours on a "
        "logarithmic scale. Point at a cell, or go there with the arrow keys, to see its other "
        "numbers. Click it, or press Enter, to see its curves below."
    )
    return Section(words[0].upper() + words[1:], [Paragraph(text), answered])


def _map(grid: Grid, low: float, high: float, places: dict[int, int]) -> HeatMap:
    is_c1 = grid.row_name == "sigma"
    return HeatMap(
        title=f"C1: {grid.title}" if is_c1 else grid.title,
        row_name=grid.row_name,
        rows=grid.rows,
        column_name=grid.column_name,
        columns=grid.columns,
        tiles=tuple(
            tuple(_tile(value, low, high, places) for value in line) for line in grid.values
        ),
    )


def _tile(value: Value, low: float, high: float, places: dict[int, int]) -> Tile:
    row = None if value.row is None else places[id(value.row)]
    if value.state != "value":
        return Tile(value.state, {"nonfinite": "n.f.", "missing": "-"}[value.state], row=row)
    star = "*" if value.partial else ""
    if value.value == 0:
        return Tile(
            *("exact", "0.0" + star) if value.exact else ("zero", OTHER_ZERO + star), row=row
        )
    place = math.log(min(max(value.value, low), high) / low) / math.log(high / low)
    return Tile("value", number(value.value) + star, min(int(SHADES * place), SHADES - 1), row)


def _curves(ask: Ask, cells: Answered) -> Sequence[Section]:
    """The curves of all cells, as far as they have a result."""
    (sizes,) = ask(_SIZES).rows
    if not sizes["cells"]:
        return []
    most = max(8, _NUMBERS // (5 * sizes["cells"]))
    step = math.ceil(sizes["epochs"] / most)
    answer = ask(_POINTS.format(step=step))
    drawn = "Every epoch is drawn."
    if step > 1:
        drawn = (
            f"So that the page stays small, only the epochs 1, {step}, {2 * step} and so on are "
            "drawn, and the last."
        )
    text = (
        "Test error, and distance of the weights from those of the BP twin, for the cell that is "
        "chosen in a heat map. The lines are means over the seeds that are finite at that epoch, "
        "and a band reaches from the lowest seed to the highest. "
        f"{drawn} Shares are rounded to 5 decimals and distances to 4 digits."
    )
    first = _default(cells, {row["cell"] for row in answer.rows})
    plots = Plots(answer, "cell", _NAMES, "epoch", _PLOTS, first)
    return [Section("Curves of the chosen cell", [Paragraph(text), plots])]


_NAMES = ("network", "rule", "t", "gamma", "sigma")
_PLOTS = (
    Plot(
        "Test error (share of wrong digits)",
        (
            Curve("this cell", "test_error", "test_error_low", "test_error_high"),
            Curve("its BP twin", "twin_test_error"),
        ),
    ),
    Plot(
        "Distance of the weights from the twin's (L2)",
        (Curve("this cell", "weight_l2"),),
        is_logarithmic=True,
    ),
)
_SIZES = """
    SELECT (SELECT count(DISTINCT trial_ids[1]) FROM divergence WHERE n_seeds > 0) AS cells,
           (SELECT max(epoch) FROM epochs) AS epochs
"""
_POINTS = """
    WITH cells AS (
      SELECT DISTINCT trial_ids[1] AS cell, unnest(trial_ids) AS trial_id FROM divergence
    ), described AS (
      SELECT DISTINCT ON (cell) trial_ids[1] AS cell, network, rule, t, gamma, sigma
      FROM divergence ORDER BY cell, panel
    ), points AS (
      SELECT cell, epoch, list(test_error ORDER BY trial_id) AS errors,
             list(twin_test_error ORDER BY trial_id) AS twins,
             list(weight_l2_to_twin ORDER BY trial_id) AS l2
      FROM cells JOIN epochs USING (trial_id)
           JOIN (SELECT trial_id, epochs FROM trials) USING (trial_id)
      WHERE epoch % {step} = 0 OR epoch IN (1, epochs)
      GROUP BY cell, epoch
    )
    SELECT cell, any_value(d.network) AS network, any_value(d.rule) AS rule, any_value(d.t) AS t,
           any_value(d.gamma) AS gamma, any_value(d.sigma) AS sigma,
           list(epoch ORDER BY epoch) AS epoch,
           list(round(list_avg(errors), 5) ORDER BY epoch) AS test_error,
           list(round(list_min(errors), 5) ORDER BY epoch) AS test_error_low,
           list(round(list_max(errors), 5) ORDER BY epoch) AS test_error_high,
           list(round(list_avg(twins), 5) ORDER BY epoch) AS twin_test_error,
           list(format('{{:.4g}}', list_avg(l2))::DOUBLE ORDER BY epoch) AS weight_l2
    FROM points JOIN described d USING (cell)
    GROUP BY cell ORDER BY cell
"""


def _default(cells: Answered, drawn: set[str]) -> str:
    """The cell whose curves are shown first: the one that the paper calls typical for IL, t = 16
    and gamma = 0.5, with the most layers; else one that is not exact."""
    there = [row for row in cells.rows if row["cell"] in drawn]
    typical = [row for row in there if (row["t"], row["gamma"]) == (16, 0.5)]
    others = [row for row in there if row["exact"] is False and not row["n_nonfinite"]]
    found = [*typical[-1:], *others, *there]
    return found[0]["cell"] if found else min(drawn)


def _table(ask: Ask) -> Section:
    """All cells in one table, with the divergence in units of its spread."""
    answer = ask("""
        WITH errors AS (
          SELECT cell, list_avg(list(final_test_error ORDER BY trial_id)) AS final_test_error
          FROM (SELECT DISTINCT trial_ids[1] AS cell, unnest(trial_ids) AS trial_id FROM divergence)
          JOIN trials USING (trial_id)
          GROUP BY cell
        )
        SELECT network, hidden_layers, rule, t, gamma, sigma, n_seeds, n_nonfinite, exact,
               test_error_divergence_mean AS test_error_mean,
               test_error_divergence_sd AS test_error_sd,
               test_error_divergence_mean / nullif(test_error_divergence_sd, 0) AS test_error_by_sd,
               weight_divergence_l2_mean AS weights_mean, weight_divergence_l2_sd AS weights_sd,
               weight_divergence_l2_mean / nullif(weight_divergence_l2_sd, 0) AS weights_by_sd,
               final_test_error, panel
        FROM (SELECT *, trial_ids[1] AS cell FROM divergence) LEFT JOIN errors USING (cell)
        ORDER BY panel DESC, hidden_layers, network, rule, t NULLS FIRST, gamma, sigma, cell
    """)
    titles = {
        "hidden_layers": "hidden layers", "n_seeds": "seeds", "n_nonfinite": "not finite",
        "test_error_mean": "test error: mean (pp)", "test_error_sd": "test error: sd",
        "test_error_by_sd": "test error: mean / sd", "weights_mean": "weights: mean (L2)",
        "weights_sd": "weights: sd", "weights_by_sd": "weights: mean / sd",
        "final_test_error": "final test error",
    }  # fmt: skip
    columns = tuple(
        Shown(titles.get(name, name), _step if name == "t" else name) for name in answer.columns
    )
    text = (
        "One row for each cell. Divergence is from the BP twin: of the test error in percentage "
        "points, of the final weights as a sum of L2 distances. A column mean / sd is the "
        "divergence in units of its spread over the seeds."
    )
    return Section("All cells", [Paragraph(text), DataTable("Cells", answer, columns)])


def _step(row: Row) -> int | str | None:
    """What the column t says: Z-IL learns at t = l, and BP and Fa-Z-IL have no t."""
    return "l" if row["rule"] == Z_IL.name else row["t"]
