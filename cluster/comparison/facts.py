"""The facts of a comparison as rows and as lines, for the terminal, CSV, JSON and the page."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from cluster.comparison.side import CellKey, Side
from cluster.comparison.verdict import Apart, CellVerdict, Summary, SweepVerdict
from cluster.query.formats import plain
from pcworker.text import counted

_AT_LEAST = ("network", "rule")
"""The fields of a configuration that name a cell, if no field tells the cells apart."""
ONE_BIT = "(bits only)"
"""Stands in the place of a measure where no measure differs, but bits do."""

CellFact = dict[str, Any]


def naming_fields(verdict: SweepVerdict) -> tuple[str, ...]:
    """The fields that tell the cells of both sweeps apart."""
    every = [dict(each) for side in (verdict.a, verdict.b) for each in side.cells]
    names = list(every[0]) if every else []
    several = tuple(n for n in names if len({each.get(n) for each in every} - {None}) > 1)
    return several or tuple(n for n in names if n in _AT_LEAST)


def fact_rows(verdict: SweepVerdict) -> Iterator[CellFact]:
    """Yields a row for each cell and each measure that differs in it, and for a cell without such a
    measure one row."""
    for cell in verdict.cells:
        says = "equal" if cell.is_equal else "differs"
        shared = dict(cell.key) | _seeds(cell, says)
        for apart in cell.apart or (None,):
            yield shared | _measure(apart)
        for apart in cell.measured:
            yield shared | {"verdict": "measured"} | _measure(apart)
    for says, only in (("only in A", verdict.only_a), ("only in B", verdict.only_b)):
        for key in only:
            yield dict(key) | _seeds(None, says) | _measure(None)


def as_json_text(verdict: SweepVerdict) -> str:
    """The whole comparison as JSON. What is not finite is a text, because JSON has no such
    numbers."""
    body = {
        "equal": verdict.is_equal,
        "cells": {
            "equal": len(verdict.cells) - len(verdict.differing),
            "differing": len(verdict.differing),
            "only_in_a": len(verdict.only_a),
            "only_in_b": len(verdict.only_b),
        },
        "a": _side(verdict.a),
        "b": _side(verdict.b),
        "rows": [plain(row) for row in fact_rows(verdict)],
    }
    return json.dumps(body, indent=1, allow_nan=False)


def summary_lines(verdict: SweepVerdict) -> Iterator[str]:
    """Yields the sentences that say what was found."""
    for letter, side in (("A", verdict.a), ("B", verdict.b)):
        ran = "; ".join(side.machines) or "nothing has run"
        yield f"{letter}: {side.name} in {side.place}, engine {side.engine_version}. {ran}"
    same = [cell for cell in verdict.cells if cell.is_equal]
    trials = sum(len(cell.seeds) for cell in same)
    yield (
        f"In both: {counted(len(verdict.cells), 'cell')}, {len(same):,} equal bit for bit "
        f"({counted(trials, 'trial')}), {len(verdict.differing):,} different."
    )
    for letter, side, only in (("A", verdict.a, verdict.only_a), ("B", verdict.b, verdict.only_b)):
        if only:
            yield f"Only in {letter}: {counted(len(only), 'cell')}."
        if side.missing:
            yield f"{letter} has no result of {counted(side.missing, 'trial')}."
        yield from side.damaged
    yield from _settings_apart(verdict)
    if verdict.is_equal:
        yield "0 differences: both sweeps have the same trials with the same bits."


def cell_texts(key: CellKey, fields: Sequence[str]) -> list[str]:
    """The values of a cell in these fields, as short texts."""
    mine = dict(key)
    return ["" if mine.get(n) is None else str(mine[n]) for n in fields]


def remarks_of(cell: CellVerdict) -> str:
    """In which tables, for how many seeds, the results of a cell differ, and which seeds only one
    sweep has."""
    parts = [f"{name} ({count} of {len(cell.seeds)})" for name, count in cell.differing.items()]
    if cell.weights_apart is not None:
        parts.append(f"no weight by more than {cell.weights_apart:.2g}")
    for letter, only in (("A", cell.only_a), ("B", cell.only_b)):
        if only:
            parts.append(f"seeds only in {letter}: {', '.join(map(str, only))}")
    return "; ".join(parts)


def _settings_apart(verdict: SweepVerdict) -> Iterator[str]:
    """Yields the settings that have no value in common, if no cell is in both sweeps: they are
    why."""
    if verdict.cells:
        return
    a, b = ([dict(each) for each in side.cells] for side in (verdict.a, verdict.b))
    for name in a[0] if a and b else ():
        mine, others = ({str(each.get(name)) for each in side} for side in (a, b))
        if not mine & others:
            yield (
                f"{name} is {', '.join(sorted(mine))} in A and {', '.join(sorted(others))} in B; "
                f"--ignore {name} compares the cells all the same."
            )


def _seeds(cell: CellVerdict | None, says: str) -> CellFact:
    return {
        "verdict": says,
        "seeds": len(cell.seeds) if cell else None,
        "seeds_only_in_a": " ".join(map(str, cell.only_a)) if cell else None,
        "seeds_only_in_b": " ".join(map(str, cell.only_b)) if cell else None,
        "differing_tables": " ".join(cell.differing) if cell else None,
        "weights_apart": cell.weights_apart if cell else None,
    }


def _measure(apart: Apart | None) -> CellFact:
    return {
        "measure": apart.measure if apart else None,
        **_summary("a", apart.a if apart else None),
        **_summary("b", apart.b if apart else None),
        "difference": apart.difference if apart else None,
        "in_spreads": apart.in_spreads if apart else None,
        "ratio": apart.ratio if apart else None,
    }


def _summary(letter: str, summary: Summary | None) -> CellFact:
    return {
        f"mean_{letter}": summary.mean if summary else None,
        f"sd_{letter}": summary.sd if summary else None,
        f"finite_{letter}": summary.n if summary else None,
        f"of_{letter}": summary.of if summary else None,
    }


def _side(side: Side) -> CellFact:
    return {
        "sweep": side.name,
        "store": side.place,
        "engine_version": side.engine_version,
        "machines": list(side.machines),
        "code_sha256": list(side.code),
        "trials_without_result": side.missing,
        "damaged": list(side.damaged),
    }
