"""What becomes of collected results: tables and figure in the store, and on the terminal."""

import os
import sys
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from cluster.collect import Collected, write_tables
from cluster.detection_report import print_detection
from cluster.experiment import ABLATION, DETECTION, TIMING
from cluster.report import print_report
from cluster.timing_report import print_timings
from pcworker.errors import DamagedError, IncompleteError
from pcworker.store import Store


def require_complete(collected: Collected) -> None:
    """Raises DamagedError if something is damaged, IncompleteError if a trial has no result: a
    table with holes must be asked for."""
    if collected.damaged:
        raise DamagedError("; ".join(collected.damaged))
    if collected.missing:
        raise IncompleteError(
            f"{len(collected.missing)} trials have no result yet; submit the sweep again to run "
            "them, or ask for --partial tables, which mark the missing cells"
        )


def publish(store: Store, collected: Collected, console: Console) -> None:
    """Stores the tables and the figure, and prints them."""
    write_tables(store, collected)
    if collected.experiment is DETECTION:
        print_detection(console, collected)
        return
    from cluster.figure import draw_figure3  # matplotlib takes half a second to import
    from cluster.timing_figure import draw_table4

    if collected.experiment is TIMING:
        name, files = "table4", draw_table4(collected.timings)
        print_timings(console, collected)
    else:
        name, files = "figure3", draw_figure3(collected.divergence)
        print_report(console, collected)
    for kind, data in files.items():
        key = collected.keys.report(f"{name}.{kind}")
        store.put(key, data)
        console.print(f"Figure: {store.describe(key)}", soft_wrap=True)


def print_next(store: Store, collected: Collected, console: Console) -> None:
    """Says where everything is, and what to run next."""
    name, query = _QUESTIONS[collected.experiment.name]
    asked = store.describe(collected.keys.table(name))
    folder = asked.rsplit("/", 1)[0]
    python = "python"
    with suppress(OSError):  # where this process was started may be gone by now
        inside = Path(sys.prefix).parent == Path.cwd()
        python = os.path.relpath(sys.executable) if inside else "python"
    sweeps = collected.keys.root.removeprefix("sweeps/").replace("+", ",")
    for line in (
        f"Tables: {folder}/{{{','.join(collected.tables)}}}.parquet",
        "Next:",
        *_query(asked, query),
        f"  {python} -m jobs.collect {store.options} --sweep {sweeps}",
        *_MORE.get(collected.experiment.name, []),
    ):
        console.print(line, soft_wrap=True)


_QUESTIONS = {
    ABLATION.name: ("divergence", "SELECT network, panel, rule FROM {} WHERE exact"),
    TIMING.name: ("timings", "SELECT network, rule, ratio_to_bp_median FROM {} WHERE exact"),
    DETECTION.name: (
        "detection",
        "SELECT activation, stage, t_d, sum(only_at_l) / sum(pairs) FROM {} "
        "WHERE tolerance = 0 AND horizon = 16 GROUP BY ALL ORDER BY ALL",
    ),
}
"""By experiment: a table, and what to ask it."""
_MORE = {
    ABLATION.name: ["  make figure3    (the paper's whole sweep: 3 seeds, 64 epochs)"],
}


def _query(table: str, query: str) -> list[str]:
    """In Python; DuckDB reads a bucket only with an extension that it downloads."""
    if "://" not in table:
        return [f'  duckdb.sql("{query.format(repr(table))}")']
    name = table.rsplit("/", 1)[1].removesuffix(".parquet")
    return [
        f"  {name} = pyarrow.parquet.read_table('{table}')",
        f'  duckdb.sql("{query.format(name)}")',
    ]
