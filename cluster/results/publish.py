"""What becomes of collected results: tables and figure in the store, and on the terminal."""

import os
import sys
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from cluster.results.collect import Collected, write_tables
from pcworker.errors import DamagedError, IncompleteError
from pcworker.store.store import Store


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
    """Stores the tables and the figures, and prints them."""
    write_tables(store, collected)
    experiment = collected.experiment
    experiment.report(console, collected)
    for file, data in experiment.figures(collected.tables).items():
        key = collected.keys.report(file)
        store.put(key, data)
        console.print(f"Figure: {store.describe(key)}", soft_wrap=True)


def print_next(store: Store, collected: Collected, console: Console) -> None:
    """Says where everything is, and what to run next."""
    experiment = collected.experiment
    asked = store.describe(collected.keys.table(experiment.question.table))
    folder = asked.rsplit("/", 1)[0]
    python = "python"
    with suppress(OSError):  # where this process was started may be gone by now
        inside = Path(sys.prefix).parent == Path.cwd()
        python = os.path.relpath(sys.executable) if inside else "python"
    sweeps = collected.keys.root.removeprefix("sweeps/").replace("+", ",")
    for line in (
        f"Tables: {folder}/{{{','.join(collected.tables)}}}.parquet",
        "Next:",
        *_query(asked, experiment.question.query),
        f"  {python} -m jobs.collect {store.options} --sweep {sweeps}",
        *(f"  {line}" for line in experiment.next_lines),
    ):
        console.print(line, soft_wrap=True)


def _query(table: str, query: str) -> list[str]:
    """In Python; DuckDB reads a bucket only with an extension that it downloads."""
    if "://" not in table:
        return [f'  duckdb.sql("{query.format(repr(table))}")']
    name = table.rsplit("/", 1)[1].removesuffix(".parquet")
    return [
        f"  {name} = pyarrow.parquet.read_table('{table}')",
        f'  duckdb.sql("{query.format(name)}")',
    ]
