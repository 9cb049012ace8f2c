"""The tables that the benchmark prints."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rich.table import Table
from rich.text import Text

from jobs.benchmark.arithmetic import (
    Measured,
    NeededArithmetic,
    compared,
    fastest,
    floor_ms,
    full_speed_from,
)
from jobs.benchmark.contenders import OURS
from pcworker.clock.turns import Spread, spread
from pcworker.text import counted

TOLERANCE = 0.02
"""Stacks whose times differ by a smaller share than this count as equally fast. It is the noise of
a quiet core."""


class Quoted(NamedTuple):
    """A peer's milliseconds per update, from an earlier measurement."""

    peer: str
    exact: float | None
    """The time of an update that is exactly BP's; None if the peer has none."""
    il20: float | None
    """The time of IL with 20 inference steps."""
    il64: float | None
    """The time of IL with 64 inference steps."""


QUOTED_BP = 0.60
"""The milliseconds of torch's autograd in that earlier measurement."""
QUOTED_NOTE = (
    "NOT measured in this run: 23 November 2026, one core of a virtual machine (AMD EPYC), torch "
    "2.14.1, the same network, batches and rates but alpha = 0.01; each update timed alone, the "
    "better of two medians, which differed by up to 30 %; machine busy with other work"
)
QUOTED = (
    Quoted("torch autograd, BP", QUOTED_BP, None, None),
    Quoted("Torch2PC, Exact (autograd) and Strict", 1.98, 23.5, 58.3),
    Quoted("pypc", 1.08, 4.80, 15.1),
    Quoted("PRECO", None, 5.11, 12.7),
    Quoted("Bogacz-Group PCTrainer, exact by our mask", 4.05, 24.5, 68.4),
    Quoted("PredictiveCodingBackprop, fixed prediction", None, 2.48, 9.10),
    Quoted("jpc, its documented loop of jitted calls", None, 6.10, 18.5),
    Quoted("jpc, one jit with a scan around its functions", None, 0.75, 1.19),
    Quoted("Deepity, CPU wheel", None, 0.70, 2.84),
    Quoted("ngc-learn, its exhibit (Adam, biases)", None, 24.6, 89.0),
    Quoted("pcn-torch", None, 78.8, 192.0),
)


class SpeedRow(NamedTuple):
    """A contender's row in the table of speeds."""

    times: Measured
    off: float
    """The largest difference of one of its weights from ours after the first block."""


def speed_table(rows: Sequence[SpeedRow], bp: Measured) -> Table:
    """The table of all contenders, by rule. Each is compared with BP by autograd, and with our
    fastest stack of the same rule."""
    table = _table(
        "Time of a weight update of one trial",
        *("rule", "who", "trials", "ms/update per trial", "of which batches"),
        *("x autograd BP", "x our best", "off ours"),
    )  # fmt: skip
    for rule in dict.fromkeys(row.times.rule for row in rows):
        mine = [row for row in rows if row.times.rule == rule]
        best = fastest([row.times for row in mine if row.times.who == OURS])
        for row in mine:
            times = row.times
            made = spread(times.batches).median
            table.add_row(
                rule, times.who, str(times.width), _spread(spread(times.total)),
                _short(made) if made else "ready", _spread(compared(times, bp)),
                _spread(compared(times, best)), f"{row.off:.1g}",
            )  # fmt: skip
        table.add_section()
    return table


def width_table(rows: Sequence[Measured]) -> Table:
    """The table of weight updates per second of one core, by rule and by width of our stacks."""
    widths = sorted({row.width for row in rows})
    table = _table(
        "Our weight updates per second of one core, by the width of the stack",
        *("rule", *(counted(width, "trial") for width in widths), "full speed"),
    )
    for rule in dict.fromkeys(row.rule for row in rows):
        mine = sorted((row for row in rows if row.rule == rule), key=lambda row: row.width)
        cells = [
            f"{1000 / row.median:,.0f} (x {1 / compared(row, mine[0]).median:.2f})" for row in mine
        ]
        table.add_row(rule, *cells, _full_speed(mine))
    return table


def floor_table(
    best: Mapping[str, Measured],
    needed: Mapping[str, tuple[NeededArithmetic, NeededArithmetic]],
    gflops: Spread,
    ns_per_sigmoid: Spread,
) -> Table:
    """The table that compares our fastest stack of each rule with the least time that its
    arithmetic takes.

    needed  the arithmetic of each rule: with all pixels, and without those that are 0
    """
    title = (
        f"The floor of this core: {_spread(gflops)} GFLOP/s in a large torch.mm; "
        f"{_spread(ns_per_sigmoid)} ns per sigmoid (torch.sigmoid, cached)"
    )
    table = _table(
        title, *("rule", "multiply-adds", "without pixels of 0", "sigmoids"),
        *("floor, us", "floor without pixels of 0, us", "ours, us", "share of it reached"),
        *("ours with batches, us", "share reached"),
    )  # fmt: skip
    for rule, times in best.items():
        every, some = needed[rule]
        dense, sparse = (
            floor_ms(part, gflops.median, ns_per_sigmoid.median) for part in (every, some)
        )
        learning, total = spread(times.learning).median, times.median
        table.add_row(
            rule, f"{every.multiply_adds:,.0f}", f"{some.multiply_adds:,.0f}",
            f"{some.sigmoids:,.0f}", f"{1000 * dense:.1f}", f"{1000 * sparse:.1f}",
            f"{1000 * learning:.1f}", f"{sparse / learning:.0%}",
            f"{1000 * total:.1f}", f"{sparse / total:.0%}",
        )  # fmt: skip
    return table


def quoted_table() -> Table:
    """The table of the peers that `make peers` does not install, measured on another day."""
    table = _table(
        f"Other peers: {QUOTED_NOTE}",
        *("peer", "exact: ms (x autograd BP)", "IL, 20 steps", "IL, 64 steps"),
    )
    for peer in QUOTED:
        table.add_row(peer.peer, *(_quoted(ms) for ms in peer[1:]))
    return table


def _table(title: str, *columns: str) -> Table:
    # Text is used instead of markup, because a title may contain brackets.
    table = Table(title=Text(title), title_justify="left")
    for place, column in enumerate(columns):
        table.add_column(column, justify="left" if place == 0 else "right")
    return table


def _spread(values: Spread) -> str:
    return f"{_short(values.median)} ({_short(values.p10)} to {_short(values.p90)})"


def _short(value: float) -> str:
    """Formats a number with three digits; from 100 on, as a whole number."""
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def _full_speed(rows: Sequence[Measured]) -> str:
    start, widest = full_speed_from(rows, TOLERANCE), max(row.width for row in rows)
    if start is None:
        return f"at {fastest(rows).width}; falls after"
    return f"grows up to {start}" if start == widest else f"from {start} on, does not fall"


def _quoted(ms: float | None) -> str:
    return "" if ms is None else f"{ms:.3g} (x {ms / QUOTED_BP:.3g})"
