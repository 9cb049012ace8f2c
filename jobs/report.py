"""Makes the report page of one or more sweeps: one HTML file that needs no network.

The page shows the results with the query of every number, what ran them, and what is missing. The
collector writes the same page when a sweep ends. This command makes it anew from what is committed
now, also while the sweep runs (with --partial; the page then says so). It changes no table.
"""

import tempfile
import webbrowser
from collections.abc import Sequence
from pathlib import Path

import click

from cluster.report.page.parts import PAGE
from cluster.report.publish import current_page, publish_page
from cluster.results.collect import stored_plans
from jobs.experiments import EXPERIMENTS
from jobs.options import console, help_text, main, store_options, sweep_names
from pcworker.errors import InputError
from pcworker.store.store import open_store


@click.command(help=help_text(__doc__), context_settings={"max_content_width": 100})
@store_options
@sweep_names
@click.option("--partial", is_flag=True, help="Make the page even if trials have no result.")
@click.option("--open", "opens", is_flag=True, help="Open the page in the browser.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the page into this file.  [default: beside the sweep's figures, in the store]",
)
def command(
    store: str,
    s3_endpoint: str | None,
    sweep: Sequence[str],
    partial: bool,
    opens: bool,
    output: Path | None,
) -> int:
    """The command line: see the module's docstring."""
    opened = open_store(store, s3_endpoint)
    plans = stored_plans(opened, sweep, EXPERIMENTS)
    if output:
        page = current_page(opened, plans, partial)[1]
        place = _write(output, page)
    else:
        place, page = publish_page(opened, plans, partial)
    console.print(f"Report: {place}", soft_wrap=True)
    if opens:
        _open(Path(place), page)
    return 0


def _write(output: Path, page: bytes) -> str:
    try:
        output.write_bytes(page)
    except OSError as error:
        raise InputError(
            f"--output {output}: {error.strerror}; name a file in a folder that exists and that "
            "you may write to"
        ) from error
    return str(output)


def _open(path: Path, page: bytes) -> None:
    """Shows the page in the browser. One that lies in a bucket is copied for that."""
    if not path.is_file():
        path = Path(tempfile.mkdtemp(prefix="zilsweep-")) / PAGE
        path.write_bytes(page)
    if not webbrowser.open(path.resolve().as_uri()):
        raise InputError(f"no browser could be started; open {path} in one by hand")


if __name__ == "__main__":
    main(command)
