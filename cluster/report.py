"""What a person reads in the terminal: divergence tables, and the collector's remarks."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from cluster.audit import Audit
from cluster.collect import Collected
from cluster.experiment import ABLATION
from cluster.panels import (
    MEASURES,
    Grid,
    Value,
    cell_value,
    n_seeds,
    sigma_grid,
    t_gamma_grids,
    variants,
)


def print_report(console: Console, collected: Collected) -> None:
    """Prints every panel for both measures, then what there is to say about the results."""
    rows = collected.divergence
    seeds = n_seeds(rows)
    for measure, caption in MEASURES.items():
        grids = t_gamma_grids(rows, measure)
        sigma = sigma_grid(rows, measure)
        if not grids and sigma is None:
            continue
        heading = f"\n{caption[0].upper()}{caption[1:]}, mean over {seeds} seed(s)"
        console.print(heading, style="bold")
        for grid in [*grids, *([sigma] if sigma else [])]:
            print_whole(console, _table(grid))
    print_whole(console, _rules(collected))
    print_remarks(console, collected)


def print_whole(console: Console, table: Table) -> None:
    """On a narrow terminal a line may wrap; a number is never cut."""
    width = console.width
    console.width = max(width, Measurement.get(console, console.options, table).maximum, 500)
    console.print(table, soft_wrap=True)
    console.width = width


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
    text = number(value.value) + ("*" if value.partial else "")
    return Text(text, style="bold green" if value.exact else "")


def number(value: float) -> str:
    """Three digits; 0.0 for exactly zero and for nothing else."""
    if value == 0:
        return "0.0"
    if 0.001 <= value < 10_000:
        return f"{value:.3g}" if value < 100 else f"{value:.0f}"
    return f"{value:.1e}"


def _rules(collected: Collected) -> Table:
    table = Table(title="By rule", title_justify="left", box=box.SIMPLE_HEAD, title_style="")
    for name in ("network", "rule", "test error", "weights", "exact"):
        table.add_column(name, justify="left" if name in ("network", "rule") else "right")
    for variant, rows in variants(collected.divergence, "rule"):
        for row in rows:
            rule = row["rule"]
            if rule == "Fa-Z-IL":
                rule += f" (t_d {row['t_d']}, T {row['horizon']}, {row['schedule']})"
            table.add_row(
                variant, rule, *(_cell(cell_value(row, m)) for m in MEASURES), str(row["exact"])
            )
    return table


def print_remarks(console: Console, collected: Collected) -> None:
    """Prints what there is to say about results of any experiment."""
    if remark := _audit_remark(collected.audit):
        console.print(remark)
    for line in (*collected.audit.differing_copies, *collected.audit.differing_attempts):
        console.print(line, style="red", soft_wrap=True)
    if collected.alone and collected.experiment is ABLATION:
        console.print(
            f"{collected.alone} trials ran one by one: in a stack their bits might change."
        )
    if collected.not_invariant:
        console.print(
            f"{collected.not_invariant} trials do not repeat themselves bit for bit on the "
            "machine that ran them (packing_invariant is false in their rows).",
            style="red",
        )
    if collected.missing:
        rows_of_trials = next(iter(collected.tables.values()))
        failed = sum(status == "failed" for status in rows_of_trials["status"].to_pylist())
        note = f", {failed} of them because their shard failed" if failed else ""
        console.print(f"{len(collected.missing)} trials are missing{note}.", style="yellow")
    for line in collected.damaged:
        console.print(line, style="red", soft_wrap=True)


def _audit_remark(audit: Audit) -> str:
    parts = []
    if audit.copies:
        verdict = _verdict(audit.differing_copies)
        parts.append(f"{audit.copies} copies of BP twins compared, {verdict}")
    if audit.attempts:
        verdict = _verdict(audit.differing_attempts)
        parts.append(f"{audit.attempts} repeated attempts of {audit.shards} shards, {verdict}")
    return f"Determinism audit: {'; '.join(parts)}." if parts else ""


def _verdict(differing: Sequence[str]) -> str:
    return f"{len(differing)} differ" if differing else "all bit-identical"
