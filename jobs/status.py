"""Shows how a sweep stands: which shards are done, running, failed or missing, and what to do next.

It reads only the store, so it works on any machine that sees the store, without Ray and torch.
"""

import time

import click

from cluster.results.collect import stored_plans
from cluster.status.lookout import Lookout
from cluster.status.view import StatusView
from cluster.sweeps.stored import first_command
from jobs.experiments import EXPERIMENTS
from jobs.options import console, help_text, main, store_options
from pcworker.store.store import open_store

REFRESH_S = 3.0
"""Seconds between two readings with --watch."""


@click.command(help=help_text(__doc__), context_settings={"max_content_width": 100})
@store_options
@click.option("--sweep", required=True, help="Name of the sweep.")
@click.option(
    "--watch", is_flag=True, help="Follow the sweep until there is nothing left to wait for."
)
def command(store: str, s3_endpoint: str | None, sweep: str, watch: bool) -> int:
    """The command line: see the module's docstring. Returns 1 if a shard has failed."""
    opened = open_store(store, s3_endpoint)
    (plan,) = stored_plans(opened, [sweep], EXPERIMENTS)
    collect = f"python -m jobs.collect {opened.options} --sweep {sweep}"
    again = None if plan.is_older else first_command(opened, sweep)
    view = StatusView(console, opened, again, collect, is_older=plan.is_older)
    lookout = Lookout(opened, plan)
    try:
        status = lookout.sure(lambda: time.sleep(1.0), console.print)
        if watch:
            status = view.follow(lookout.status, lambda: time.sleep(REFRESH_S))
        else:
            view.show(status)
        return 1 if status.broken else 0
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    main(command)
