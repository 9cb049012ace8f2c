"""What becomes of collected results: tables and figure in the store, and on the terminal."""

import os
import sys
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from cluster.collect import Collected, write_tables
from cluster.experiment import TIMING
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
    from cluster.figure import draw_figure3  # matplotlib takes half a second to import
    from cluster.timing_figure import draw_table4

    write_tables(store, collected)
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
    timing = collected.experiment is TIMING
    asked = store.describe(collected.keys.table("timings" if timing else "divergence"))
    folder = asked.rsplit("/", 1)[0]
    python = "python"
    with suppress(OSError):  # where this process was started may be gone by now
        inside = Path(sys.prefix).parent == Path.cwd()
        python = os.path.relpath(sys.executable) if inside else "python"
    sweeps = collected.keys.root.removeprefix("sweeps/").replace("+", ",")
    for line in (
        f"Tables: {folder}/{{{','.join(collected.tables)}}}.parquet",
        "Next:",
        *_query(asked, "network, rule, ratio_to_bp_median" if timing else "network, panel, rule"),
        f"  {python} -m jobs.collect {store.options} --sweep {sweeps}",
        *([] if timing else ["  make figure3    (the paper's whole sweep: 3 seeds, 64 epochs)"]),
    ):
        console.print(line, soft_wrap=True)


def _query(table: str, columns: str) -> list[str]:
    """In Python; DuckDB reads a bucket only with an extension that it downloads."""
    if "://" not in table:
        return [f"  duckdb.sql(\"SELECT {columns} FROM '{table}' WHERE exact\")"]
    name = table.rsplit("/", 1)[1].removesuffix(".parquet")
    return [
        f"  {name} = pyarrow.parquet.read_table('{table}')",
        f'  duckdb.sql("SELECT {columns} FROM {name} WHERE exact")',
    ]
