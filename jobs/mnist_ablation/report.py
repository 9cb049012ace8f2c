"""Prints the tables of divergence in the terminal."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cluster.report.remarks import print_remarks
from cluster.report.terminal import print_whole, with_spread
from cluster.results.collect import Collected
from jobs.mnist_ablation.panels import (
    MEASURES,
    OTHER_ZERO,
    Grid,
    Value,
    cell_value,
    n_seeds,
    sigma_grid,
    t_gamma_grids,
    variants,
)
from pcworker.text import counted


def print_report(console: Console, collected: Collected) -> None:
    """Prints every panel for both measures, the table by rule, and remarks about the results."""
    rows = collected.rows("divergence")
    seeds = n_seeds(rows)
    for measure, caption in MEASURES.items():
        grids = t_gamma_grids(rows, measure)
        sigma = sigma_grid(rows, measure)
        if not grids and sigma is None:
            continue
        shown = f"{'mean' if seeds == 1 else 'mean ± sd'} over {counted(seeds, 'seed')}"
        console.print(f"\n{caption[0].upper()}{caption[1:]}, {shown}", style="bold")
        every = [*grids, *([sigma] if sigma else [])]
        for grid in every:
            print_whole(console, _table(grid))
        if any(_is_other_zero(value) for grid in every for line in grid.values for value in line):
            console.print(f"{OTHER_ZERO}: the mean is 0, but the weights are not BP's")
    print_whole(console, _rules(collected))
    print_remarks(console, collected)


def _table(grid: Grid) -> Table:
    table = Table(title=grid.title, title_justify="left", box=box.SIMPLE_HEAD, title_style="")
    table.add_column(f"{grid.row_name} \\ {grid.column_name}", justify="right", style="dim")
    for column in grid.columns:
        table.add_column(column, justify="right")
    for name, values in zip(grid.rows, grid.values, strict=True):
        table.add_row(name, *(_cell(value) for value in values))
    return table


def _cell(value: Value) -> Text:
    if value.state == "missing":
        return Text("missing", style="yellow")
    if value.state == "nonfinite":
        return Text("non-finite", style="red")
    shown = OTHER_ZERO if _is_other_zero(value) else with_spread(value.value, value.sd)
    text = shown + ("*" if value.partial else "")
    return Text(text, style="bold green" if value.exact else "")


def _is_other_zero(value: Value) -> bool:
    """True for a mean of exactly 0 of trials whose weights are not their twins'."""
    return value.state == "value" and value.value == 0 and not value.exact


def _rules(collected: Collected) -> Table:
    table = Table(title="By rule", title_justify="left", box=box.SIMPLE_HEAD, title_style="")
    for name in ("network", "rule", "test error", "weights", "exact"):
        table.add_column(name, justify="left" if name in ("network", "rule") else "right")
    for variant, rows in variants(collected.rows("divergence"), "rule"):
        for row in rows:
            rule = row["rule"]
            if row["t_d"] is not None:
                rule += f" (t_d {row['t_d']}, T {row['horizon']}, {row['schedule']})"
            table.add_row(
                variant, rule, *(_cell(cell_value(row, m)) for m in MEASURES), str(row["exact"])
            )
    return table
