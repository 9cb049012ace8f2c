"""Publishes collected results: tables, figures and a report page go into the store, and tables onto
the terminal."""

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from cluster.report.page.making import report_page
from cluster.report.page.parts import PAGE
from cluster.results.collect import Collected, collect, write_tables
from cluster.results.outdated import is_outdated
from cluster.sweeps.plan import Plan
from pcworker.errors import DamagedError, IncompleteError
from pcworker.store.store import Store
from pcworker.text import in_a_line


class _Stored(NamedTuple):
    """What was collected and stored."""

    collected: Collected
    figures: Sequence[str]
    """The names of the figures' files."""
    page_line: str
    """Says where the report page is."""


def require_complete(collected: Collected) -> None:
    """Raises DamagedError if an object is damaged, IncompleteError if a trial has no result.

    Tables with missing cells are made only if the user asks for them with --partial.
    """
    if collected.damaged:
        raise DamagedError("; ".join(collected.damaged))
    if collected.missing and collected.plans[0].is_older:
        raise IncompleteError(
            f"{len(collected.missing)} trials have no result, and the sweep is of an older engine, "
            "so that they cannot be run any more; ask for --partial tables, which mark the missing "
            "cells"
        )
    if collected.missing:
        raise IncompleteError(
            f"{len(collected.missing)} trials have no result yet; submit the sweep again to run "
            "them, or ask for --partial tables, which mark the missing cells"
        )


def publish(store: Store, plans: Sequence[Plan], console: Console, partial: bool) -> Collected:
    """Collects sweeps of one experiment, stores the tables, the figures and the report page, and
    prints the results.

    Raises DamagedError or IncompleteError as `require_complete` does, unless `partial`.
    """
    passes = 1
    while not (stored := _stored(store, plans, partial, passes)):
        passes += 1
    collected = stored.collected
    collected.experiment.report(console, collected)
    for file in stored.figures:
        console.print(f"Figure: {store.describe(collected.keys.report(file))}", soft_wrap=True)
    console.print(stored.page_line, soft_wrap=True)
    return collected


def _stored(store: Store, plans: Sequence[Plan], partial: bool, passes: int) -> _Stored | None:
    """Collects and stores the tables, the figures and the page. Returns None if the collector must
    start over: see `cluster.results.outdated`."""
    collected = collect(store, plans)
    if is_outdated(store, collected, passes):
        return None
    if not partial:
        require_complete(collected)
    drawn = _drawn(collected)
    write_tables(store, collected)
    for file, data in drawn.items():
        store.put(collected.keys.report(file), data)
    page = _store_page(store, collected, drawn)
    return None if is_outdated(store, collected, passes) else _Stored(collected, list(drawn), page)


def publish_page(store: Store, plans: Sequence[Plan], partial: bool) -> tuple[str, bytes]:
    """Stores the report page of what is committed now, and no table. Returns where the page is, and
    its bytes. Like the collector, it starts over if there are newer results.

    Raises DamagedError or IncompleteError as `require_complete` does, unless `partial`.
    """
    passes, is_old = 0, True
    while is_old:
        passes += 1
        collected, page = current_page(store, plans, partial)
        store.put(collected.keys.report(PAGE), page)
        is_old = is_outdated(store, collected, passes)
    return store.describe(collected.keys.report(PAGE)), page


def current_page(store: Store, plans: Sequence[Plan], partial: bool) -> tuple[Collected, bytes]:
    """Collects, and makes the report page. Nothing is stored. Raises what `publish_page` does."""
    collected = collect(store, plans)
    if not partial:
        require_complete(collected)
    return collected, report_page(store, collected, _drawn(collected))


def _store_page(store: Store, collected: Collected, drawn: Mapping[str, bytes]) -> str:
    """Stores the report page, and returns a line that says where it is, or why there is none."""
    key = collected.keys.report(PAGE)
    try:
        page = report_page(store, collected, drawn)
    except Exception as error:  # The tables count. A page that cannot be made must not cost them.
        return f"No report page could be made: {in_a_line(f'{type(error).__name__}: {error}')}"
    store.put(key, page)
    return f"Report: {store.describe(key)}"


def _drawn(collected: Collected) -> Mapping[str, bytes]:
    """The files of the experiment's figures, by name."""
    experiment = collected.experiment
    drawn = experiment.figures(collected.tables)
    if unknown := set(drawn) - set(experiment.figure_files):
        raise ValueError(f"{sorted(unknown)} must stand in the experiment's figure_files")
    return drawn


def print_next(store: Store, collected: Collected, console: Console) -> None:
    """Prints where the tables are and which commands a user may run next."""
    experiment = collected.experiment
    tables, question = collected.tables, experiment.question
    folder = store.describe(collected.keys.table(question.table)).rsplit("/", 1)[0]
    large = [name for name in tables if tables.is_large(name)]
    small = ",".join(name for name in tables if name not in large)
    python = "python"
    with suppress(OSError):  # the directory in which this process was started may be gone
        inside = Path(sys.prefix).parent == Path.cwd()
        python = shlex.quote(os.path.relpath(sys.executable)) if inside else "python"
    names = [plan.name for plan in collected.plans]
    sql = shlex.quote(question.query.format(question.table))
    for line in (
        f"Tables: {folder}/{{{small}}}.parquet",
        *(f"Tables of several files: {folder}/{{{','.join(large)}}}/" for _ in large[:1]),
        "Next:",
        f"  {python} -m jobs.query {store.options} --sweep {'+'.join(names)} {sql}",
        f"  {python} -m jobs.report {store.options} --sweep {','.join(names)} --open",
        *(f"  {line}" for line in experiment.next_lines),
    ):
        console.print(line, soft_wrap=True)
