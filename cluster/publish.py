"""What becomes of collected results: tables and figure in the store, and on the terminal."""

import os
import sys
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from cluster.collect import Collected, write_tables
from cluster.report import print_report
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

    write_tables(store, collected)
    figures = {
        collected.keys.report(f"figure3.{kind}"): data
        for kind, data in draw_figure3(collected.divergence).items()
    }
    for key, data in figures.items():
        store.put(key, data)
    print_report(console, collected)
    for key in figures:
        console.print(f"Figure: {store.describe(key)}", soft_wrap=True)


def print_next(store: Store, collected: Collected, console: Console) -> None:
    """Says where everything is, and what to run next."""
    divergence = store.describe(collected.keys.table("divergence"))
    folder = divergence.rsplit("/", 1)[0]
    python = "python"
    with suppress(OSError):  # where this process was started may be gone by now
        inside = Path(sys.prefix).parent == Path.cwd()
        python = os.path.relpath(sys.executable) if inside else "python"
    sweeps = collected.keys.root.removeprefix("sweeps/").replace("+", ",")
    for line in (
        f"Tables: {folder}/{{{','.join(collected.tables)}}}.parquet",
        "Next:",
        *_query(divergence),
        f"  {python} -m jobs.collect {store.options} --sweep {sweeps}",
        "  make figure3    (the paper's whole sweep: 3 seeds, 64 epochs)",
    ):
        console.print(line, soft_wrap=True)


def _query(divergence: str) -> list[str]:
    """In Python; DuckDB reads a bucket only with an extension that it downloads."""
    if "://" not in divergence:
        return [f"  duckdb.sql(\"SELECT network, panel, rule FROM '{divergence}' WHERE exact\")"]
    return [
        f"  divergence = pyarrow.parquet.read_table('{divergence}')",
        '  duckdb.sql("SELECT network, panel, rule FROM divergence WHERE exact")',
    ]
