"""Restores an exported sweep into a store, under its own name.

Every byte of the archive is checked before anything is written. The plan is written last: the sweep
is there as a whole or not at all. If the command is interrupted, the same command goes on.
"""

from pathlib import Path

import click

from cluster.archive.restore import restore_sweep
from jobs.experiments import EXPERIMENTS
from jobs.options import console, help_text, main, store_options
from pcworker.store.store import open_store
from pcworker.text import counted


@click.command(help=help_text(__doc__), context_settings={"max_content_width": 100})
@click.argument("source", metavar="FROM", type=click.Path(path_type=Path))
@store_options
def command(source: Path, store: str, s3_endpoint: str | None) -> int:
    """The command line: see the module's docstring."""
    opened = open_store(store, s3_endpoint)
    done = restore_sweep(source, opened, EXPERIMENTS)
    name = done.plan.name
    console.print(
        f"Sweep {name} in {opened.url}: {counted(done.written, 'object')} written, "
        f"{done.there:,} were there.",
        soft_wrap=True,
    )
    console.print(
        f"Next:\n  python -m jobs.collect {opened.options} --sweep {name}", soft_wrap=True
    )
    return 0


if __name__ == "__main__":
    main(command)
