"""Deletes a sweep: its plan, results, checkpoints, tables and figures. This cannot be undone.

The command first asks for the sweep's name. Other sweeps stay, and so do files in the sweep's
folder that this project did not write. A sweep on which a driver is at work is not deleted. If the
command is interrupted, the same command deletes the rest.
"""

import sys
import time

import click
from rich.progress import Progress

from cluster.deletion import Doomed, at_work, delete, doomed
from jobs.experiments import EXPERIMENTS
from jobs.options import console, errors, help_text, main, store_options
from pcworker.errors import InputError
from pcworker.store.store import Store, open_store
from pcworker.text import counted


@click.command(help=help_text(__doc__), context_settings={"max_content_width": 100})
@store_options
@click.option("--sweep", required=True, help="Name of the sweep; A+B: the tables of both together.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(store: str, s3_endpoint: str | None, sweep: str, yes: bool) -> int:
    """The command line: see the module's docstring. Returns 1 if new objects appeared during the
    deletion."""
    opened = open_store(store, s3_endpoint)
    found = doomed(opened, sweep, EXPERIMENTS)
    console.print(f"Sweep {sweep} in {opened.url}: {found.described}", soft_wrap=True)
    if not yes:
        _ask(found)
    _require_idle(opened, found)
    found = doomed(opened, sweep, EXPERIMENTS)
    try:
        with Progress(console=console, disable=not console.is_terminal) as progress:
            bar = progress.add_task("deleting", total=found.count)
            delete(opened, found, lambda gone: progress.update(bar, completed=gone))
    except KeyboardInterrupt:
        errors.print("interrupted: a part is gone for good; the same command deletes the rest")
        return 130
    console.print(f"Deleted {counted(found.count, 'object')}.")
    if found.foreign:
        kept = ", ".join(found.foreign[:3]) + (", ..." if len(found.foreign) > 3 else "")
        console.print(f"Kept {len(found.foreign)} that are not the sweep's: {kept}", soft_wrap=True)
    if left := len(opened.list(found.folder)) - len(found.foreign):
        came = counted(left, "object")
        console.print(f"{came} came meanwhile: is it running? Delete it again.")
        return 1
    return 0


def _require_idle(store: Store, found: Doomed) -> None:
    found_at_work = at_work(store, found, lambda: time.sleep(1.0))
    if unreadable := [key for key, driver in found_at_work.items() if driver is None]:
        raise InputError(
            f"sweep {found.name}: a driver may be at work on it, because its sign of life "
            f"{store.describe(unreadable[0])} cannot be read; nothing was deleted. Stop the "
            "driver; if there is none, delete that file"
        )
    if hosts := {driver.hostname for driver in found_at_work.values() if driver is not None}:
        raise InputError(
            f"sweep {found.name}: a driver is at work on it, on {', '.join(sorted(hosts))}; "
            "nothing was deleted. Stop it first (Ctrl-C, ray job stop)"
        )


def _ask(found: Doomed) -> None:
    if not sys.stdin.isatty():
        raise InputError(
            f"sweep {found.name}: nothing is deleted without an answer, and there is no terminal "
            "to ask at; give --yes"
        )
    try:
        objects = counted(found.count, "object")
        answer = click.prompt(f"{objects} would go. The sweep's name, to delete it")
    except click.Abort:
        raise InputError("no answer; nothing was deleted") from None
    if answer != found.name:
        raise InputError(f"{answer!r} is not {found.name}; nothing was deleted")


if __name__ == "__main__":
    main(command)
