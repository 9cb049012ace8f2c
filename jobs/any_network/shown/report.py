"""Prints the results in the terminal: how far each rule is from BP, and what it costs."""

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cluster.report.remarks import print_remarks
from cluster.report.terminal import number, numbers_table, print_whole, with_spread
from cluster.results.collect import Collected
from jobs.any_network.shown.views import (
    THEIR_RATIOS,
    THEIR_UNLEVELLED,
    Compared,
    OverSeeds,
    comparisons,
    elsewhere,
    method_names,
)
from pcworker.text import counted

SECOND_HAND = "Salvatori et al. (AAAI 2022), their networks and data; these numbers are second-hand"
_UNLEVELLED = "Z-IL, no identity vertices"


def print_networks(console: Console, collected: Collected) -> None:
    """Prints both tables, all measurements of each network, and remarks about the results."""
    if found := comparisons(collected.rows("networks")):
        _print_divergence(console, found)
        _print_cost(console, found)
        console.print("\nAll measurements, by network", style="bold")
        for each in found:
            console.print(f"\n{_title(each)}", soft_wrap=True)
            print_whole(console, _whole(each))
        _print_answer(console, found)
    print_remarks(console, collected)


def _print_divergence(console: Console, found: Sequence[Compared]) -> None:
    console.print(
        "\nTheir Table 1. Divergence of the final weights from BP's: the L2 norm, mean over "
        f"{counted(len(found[0].bp.rows), 'seed')}; 0.0 stands for the same bits",
        style="bold",
    )
    table = _by_method(found, _distance)
    theirs = [
        f"{THEIR_UNLEVELLED[e.network]:.2e}" if e.network in THEIR_UNLEVELLED else "" for e in found
    ]
    table.add_row("theirs, no identity vertices", *theirs)
    print_whole(console, table)
    console.print(f"theirs: {SECOND_HAND}.", soft_wrap=True)


def _print_cost(console: Console, found: Sequence[Compared]) -> None:
    console.print(
        "\nTheir Table 2. Time of a weight update: BP's in ms, and of the others divided by BP's "
        "in the same turn, median",
        style="bold",
    )
    table = _by_method(found, lambda cell: f"{cell.middle('ratio_to_bp_median'):.3g}")
    table.add_row("BP, ms", *(f"{each.bp.middle('ms_per_update_median'):.3g}" for each in found))
    theirs = [f"{THEIR_RATIOS[e.network]:.3f}" if e.network in THEIR_RATIOS else "" for e in found]
    table.add_row("theirs, Z-IL", *theirs)
    print_whole(console, table)
    console.print(f"theirs: {SECOND_HAND}.", soft_wrap=True)


def _by_method(found: Sequence[Compared], shown: Callable[[OverSeeds], str | Text]) -> Table:
    """A table with a row for each method and a column for each network."""
    table = numbers_table("method", [each.network for each in found])
    for name in method_names(found):
        cells = [each.cell(name) for each in found]
        table.add_row(name, *("" if cell is None else shown(cell) for cell in cells))
    return table


def _distance(cell: OverSeeds, column: str = "weight_l2_to_bp") -> Text:
    if cell.nonfinite:
        return Text("non-finite", style="red")
    if (apart := cell.numbers(column)) is None:
        return Text("finite; BP's are not", style="red")
    return Text(with_spread(apart.mean, apart.sd), style="bold green" if cell.exact else "")


def _title(each: Compared) -> str:
    row = each.bp.rows[0]
    device = row["device"] or row["device_kind"]
    cuts = "" if row["cuts"] is None else f", cut after {row['cuts']}"
    return (
        f"{row['network']} ({row['family']}): {row['parameters']:,} parameters, {row['vertices']} "
        f"vertices, {row['levels']} levels, {row['identities']} identity vertices{cuts}; "
        f"{row['data']} as {row['view']}, {row['dtype']}, batch {row['batch_size']}, "
        f"{row['updates']} updates; {device}, torch {row['torch_version']}, {row['hostname']}"
    )


def _whole(each: Compared) -> Table:
    names = ["L2 from BP", "L1", "largest", "test error", "ms", "/ BP", "10% to 90%", "peak MiB"]
    table = numbers_table("method", [*names, "/ BP"])
    peak = each.bp.middle("peak_memory_bytes")
    for cell in each.cells:
        distances = (
            [_distance(cell, f"weight_{kind}_to_bp") for kind in ("l2", "l1", "maxabs")]
            if cell is not each.bp
            else ["", "", ""]
        )
        errors, mine = cell.numbers("test_error"), cell.middle("peak_memory_bytes")
        table.add_row(
            cell.name,
            *distances,
            "" if errors is None else f"{100 * errors.mean:.1f} %",
            number(cell.middle("ms_per_update_median")),
            f"{cell.middle('ratio_to_bp_median'):.3g}",
            f"{cell.middle('ratio_to_bp_p10'):.3g} to {cell.middle('ratio_to_bp_p90'):.3g}",
            f"{mine / 2**20:,.1f}",
            f"{mine / peak:.2f}",
        )
    return table


def _print_answer(console: Console, found: Sequence[Compared]) -> None:
    """Says whether the distance is zero where the theorem holds, and only there."""
    measured = [c for each in found for c in each.cells if c.numbers("weight_l2_to_bp")]
    held = [cell for cell in measured if cell.must_be_exact]
    exact = sum(cell.exact for cell in held)
    tell = console.print
    tell("\nIs it zero there, and only there?", style="bold")
    tell(
        f"Z-IL on a levelled graph, sigma 0, gamma 1: {exact} of {len(held)} cells have BP's bits.",
        style="" if exact == len(held) else "red",
    )
    others = elsewhere(found)
    also = [f"{each.network}: {cell.name}" for each, cell in others if cell.exact]
    tell(
        f"Other finite cells: {len(also)} of {len(others)} have BP's bits"
        + (f" ({'; '.join(also)})." if also else "."),
        soft_wrap=True,
    )
    if nearest := next(((each, cell) for each, cell in others if not cell.exact), None):
        each, cell = nearest
        apart = cell.numbers("weight_l2_to_bp")
        assert apart is not None, "only finite cells are among them"
        tell(f"The nearest of the rest: {each.network}, {cell.name}, at {number(apart.mean)}.")
