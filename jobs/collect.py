"""Recomputes the tables and the figure of a sweep, or of several, from what is stored.

Runs at any time, also while the sweep runs (with --partial), and needs neither Ray nor torch.
"""

from collections.abc import Sequence

import click

from cluster.results.collect import collect, stored_plans
from cluster.results.publish import print_next, publish, require_complete
from jobs.experiments import EXPERIMENTS
from jobs.options import console, help_text, main, store_options, sweep_names
from pcworker.store.store import open_store


@click.command(help=help_text(__doc__), context_settings={"max_content_width": 100})
@store_options
@sweep_names
@click.option("--partial", is_flag=True, help="Print tables with missing cells, and mark them.")
def command(store: str, s3_endpoint: str | None, sweep: Sequence[str], partial: bool) -> int:
    """The command line: see the module's docstring."""
    opened = open_store(store, s3_endpoint)
    collected = collect(opened, stored_plans(opened, sweep, EXPERIMENTS))
    if not partial:
        require_complete(collected)
    publish(opened, collected, console)
    print_next(opened, collected, console)
    return 0


if __name__ == "__main__":
    main(command)
