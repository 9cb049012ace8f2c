"""Recomputes the tables and the figure of one or more sweeps from the stored results.

It can run at any time, even while the sweep runs (with --partial). It needs neither Ray nor torch.
"""

from collections.abc import Sequence

import click

from cluster.report.publish import print_next, publish
from cluster.results.collect import stored_plans
from jobs.experiments import EXPERIMENTS
from jobs.options import console, help_text, main, store_options, sweep_names
from pcworker.store.store import open_store


@click.command(help=help_text(__doc__), context_settings={"max_content_width": 100})
@store_options
@sweep_names
@click.option(
    "--partial", is_flag=True, help="Print tables even if cells are missing, and mark those."
)
def command(store: str, s3_endpoint: str | None, sweep: Sequence[str], partial: bool) -> int:
    """The command line: see the module's docstring. Returns 1 if what was computed more than once
    differs, or differs from what is published."""
    opened = open_store(store, s3_endpoint)
    plans = stored_plans(opened, sweep, EXPERIMENTS)
    collected = publish(opened, plans, console, partial)
    print_next(opened, collected, console)
    return 1 if collected.audit.differing else 0


if __name__ == "__main__":
    main(command)
