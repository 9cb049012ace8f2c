"""Prints the timing runs in the terminal."""

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cluster.report.remarks import print_remarks
from cluster.report.terminal import number, numbers_table, print_whole
from cluster.results.collect import Collected
from jobs.imagenet_timing.shown.views import (
    Run,
    by_steps,
    cost_of_a_step,
    method,
    methods,
    name_in,
    paper,
    ratio_by_method,
    runs,
)
from pcworker.row import Row


def print_timings(console: Console, collected: Collected) -> None:
    """Prints a table for each run, how the cost grows, and remarks about the results."""
    found = runs(collected.rows("timings"))
    if found:
        console.print(
            "\nTime of a weight update: median over turns (10th to 90th percentile); / BP: of BP's "
            "time in the same turn",
            style="bold",
        )
    for run in found:
        console.print(f"\n{run.title}", soft_wrap=True)
        print_whole(console, _table(run))
    if any(run.bp["data"] == "synthetic" for run in found):
        console.print(
            "The images are synthetic: normals of the shape of normalised pixels. Real ones: --data"
        )
    if len({row["execution"] for run in found for row in run.rows}) > 1:
        console.print(
            "Weights: those of every row are compared with plain BP's, by their sha256 and, where "
            "that differs, by the L2 norm. Compiled BP adds in another order, so its last bits may "
            "differ."
        )
    if len({run.network for run in found}) > 1:
        console.print("\nBy depth: time / BP's", style="bold")
        print_whole(console, _by_depth(found))
    if stepping := [run for run in found if by_steps(run)]:
        console.print("\nBy inference steps of IL: time / BP's", style="bold")
        print_whole(console, _by_steps(stepping))
    print_remarks(console, collected)


def _table(run: Run) -> Table:
    loading = run.bp["loop_ms_per_update_median"] is not None
    names = ["rule", "ms", "", "/ BP", "", "paper ms", "paper / BP", "peak MiB", "/ BP"]
    names += [f"ms with loading ({run.bp['loaders']})", "/ BP"] if loading else []
    names += ["weights"]
    table = Table(box=box.SIMPLE_HEAD)
    for place, name in enumerate(names):
        table.add_column(name, justify="left" if place == 0 else "right")
    for row in run.rows:
        told = paper(row)
        table.add_row(
            method(row),
            ms(row["ms_per_update_median"]),
            f"({ms(row['ms_per_update_p10'])} to {ms(row['ms_per_update_p90'])})",
            ratio(row["ratio_to_bp_median"]),
            f"({ratio(row['ratio_to_bp_p10'])} to {ratio(row['ratio_to_bp_p90'])})",
            f"{told.ms:.1f}" if told else "",
            ratio(told.ratio) if told else "",
            f"{row['peak_memory_bytes'] / 2**20:,.1f}",
            ratio(row["peak_memory_bytes"] / run.bp["peak_memory_bytes"]),
            *_loading(row, loading),
            _weights(row, run.bp),
        )
    return table


def _loading(row: Row, loading: bool) -> Sequence[str]:
    if not loading:
        return ()
    return ms(row["loop_ms_per_update_median"]), ratio(row["loop_ratio_to_bp_median"])


def _weights(row: Row, bp: Row) -> Text:
    """Says how far the final weights are from BP's."""
    if row["status"] == "nonfinite":
        return Text("non-finite", style="red")
    if row is bp:
        return Text("")
    if row["exact"]:
        return Text("BP's, bit for bit", style="bold green")
    if bp["status"] == "nonfinite":
        return Text("finite; BP's are not", style="red")
    return Text(f"{number(row['weight_l2_to_bp'])} from BP's (L2)")


def _by_depth(found: Sequence[Run]) -> Table:
    table = numbers_table("rule", [f"{name_in(run, found)}: {run.layers}" for run in found])
    ratios = [ratio_by_method(run) for run in found]
    for name in methods(found):
        each: list[Any] = [ratio(mine[name]) if name in mine else "" for mine in ratios]
        table.add_row(name, *each)
    return table


def _by_steps(found: Sequence[Run]) -> Table:
    steps = sorted({t for run in found for t, _ in by_steps(run)})
    table = numbers_table("network \\ t", [*map(str, steps), "one more step"])
    for run in found:
        known, slope = dict(by_steps(run)), cost_of_a_step(run)
        each = [ratio(known[t]) if t in known else "" for t in steps]
        table.add_row(name_in(run, found), *each, "" if slope is None else ratio(slope))
    return table


def ms(value: float) -> str:
    """Milliseconds with at least three digits, and with commas from 1000 on."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.3f}"


def ratio(value: float) -> str:
    """A ratio with two decimals, or without decimals from 100 on."""
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"
