"""Exports a sweep as a folder or one file that can be read without this project, in ten years too.

It holds the tables as Parquet, a data card, the metadata of RO-Crate, the committed results, and
the sha256 of every file. python -m jobs.restore puts the sweep into another store. A sweep that is
not finished can be exported as well, and goes on there. Checkpoints are left out.
"""

from pathlib import Path

import click

from cluster.archive.export import export_sweep
from cluster.results.collect import stored_plans
from jobs.experiments import EXPERIMENTS
from jobs.options import console, help_text, main, store_options
from pcworker.store.store import open_store


@click.command(help=help_text(__doc__), context_settings={"max_content_width": 100})
@store_options
@click.option("--sweep", required=True, help="Name of the sweep.")
@click.option(
    "--to",
    required=True,
    type=click.Path(path_type=Path),
    help="The new folder, or the new file, which ends in .tar.gz or .zip.",
)
@click.option(
    "--licence", default="MIT", show_default=True, metavar="SPDX",
    help="The licence of the data, by its SPDX identifier, such as CC-BY-4.0.",
)  # fmt: skip
def command(store: str, s3_endpoint: str | None, sweep: str, to: Path, licence: str) -> int:
    """The command line: see the module's docstring."""
    opened = open_store(store, s3_endpoint)
    [plan] = stored_plans(opened, [sweep], EXPERIMENTS)
    count = export_sweep(opened, plan, to, licence)
    console.print(f"Sweep {sweep}: {count} files in {to}", soft_wrap=True)
    return 0


if __name__ == "__main__":
    main(command)
