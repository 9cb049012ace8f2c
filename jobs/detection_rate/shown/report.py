"""Prints the detection runs in the terminal: Table 3, and what changes it."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from cluster.report.remarks import print_remarks
from cluster.report.terminal import numbers_table, print_whole
from cluster.results.collect import Collected
from jobs.detection_rate.configuration import T_D
from jobs.detection_rate.shown.views import PAPER, Rates, by_factor, by_network, without_failed

SHOWN = (1, 2, 3, 4, 16)
"""The values of t_d in the second table."""


def print_detection(console: Console, collected: Collected) -> None:
    """Prints Table 3 beside our rates, what changes them, and remarks about the results."""
    if rows := without_failed(collected.rows("detection")):
        tell = console.print
        tell(
            "\nHow often phi spikes at t = l and at no other t up to the horizon: % of all neurons "
            "with all samples, by t_d",
            style="bold",
        )
        print_whole(console, _table3(by_network(rows)))
        factors = by_factor(rows)
        tell("What changes it, all networks together, up to the largest horizon", style="bold")
        print_whole(console, _success(factors))
        tell(
            "Where it fails, at t_d = 1 and 4: misses of t = l, spikes at other t, and the share "
            "of all spikes that come at t = l",
            style="bold",
        )
        print_whole(console, _failures(factors))
    print_remarks(console, collected)


def _table3(found: Sequence[Rates]) -> Table:
    table = numbers_table("success, %", [f"t_d {t_d}" for t_d in T_D])
    table.add_row("paper, Table 3", *_cells(PAPER, T_D))
    for each in found:
        table.add_row(each.name, *_cells(each.success, T_D))
    return table


def _success(found: Sequence[Rates]) -> Table:
    """The success rates of all pairs of a neuron and a sample, and of those whose error at t = l is
    not zero."""
    heard = [f"eps not 0: t_d {t_d}" for t_d in SHOWN]
    table = numbers_table("success, %", [*(f"t_d {t_d}" for t_d in SHOWN), *heard])
    table.add_row("paper, Table 3", *_cells(PAPER, SHOWN), *_cells(PAPER, SHOWN))
    for each in found:
        table.add_row(each.name, *_cells(each.success, SHOWN), *_cells(each.of_heard, SHOWN))
    return table


def _failures(found: Sequence[Rates]) -> Table:
    names = ("missed, eps = 0", "missed, eps not 0", "early", "late", "of spikes")
    table = numbers_table("%", [f"{name}, t_d {t_d}" for name in names for t_d in (1, 4)])
    for each in found:
        shares = (each.missed_zero, each.missed_nonzero, each.early, each.late, each.precision)
        table.add_row(each.name, *(cell for share in shares for cell in _cells(share, (1, 4))))
    return table


def _cells(share: Mapping[int, float], t_ds: Sequence[int]) -> list[str]:
    return [percent(share[t_d]) if t_d in share else "" for t_d in t_ds]


def percent(value: float) -> str:
    """A percentage with one decimal, as in the paper.

    It has more decimals if one would show 0 or 100 for a value that is neither.
    """
    for digits in range(1, 7):
        text = f"{value:.{digits}f}"
        if float(text) not in (0.0, 100.0) or float(text) == value:
            return text
    return text
