"""Shows how a sweep stands: what is done, running, failed and missing, and what to do next.

Reads the store alone, from any machine that sees it, and needs neither Ray nor torch.
"""

import time

import click

from cluster.results.collect import stored_plans
from cluster.status.lookout import Lookout
from cluster.status.view import StatusView
from cluster.sweeps.plan import first_command
from jobs.experiments import EXPERIMENTS
from jobs.options import console, help_text, main, store_options
from pcworker.store.store import open_store

REFRESH_S = 3.0


@click.command(help=help_text(__doc__), context_settings={"max_content_width": 100})
@store_options
@click.option("--sweep", required=True, help="Name of the sweep.")
@click.option("--watch", is_flag=True, help="Follow it until there is nothing left to wait for.")
def command(store: str, s3_endpoint: str | None, sweep: str, watch: bool) -> int:
    """The command line: see the module's docstring. Returns 1 if a shard has failed."""
    opened = open_store(store, s3_endpoint)
    (plan,) = stored_plans(opened, [sweep], EXPERIMENTS)
    collect = f"python -m jobs.collect {opened.options} --sweep {sweep}"
    view = StatusView(console, opened, first_command(opened, sweep), collect)
    look = Lookout(opened, plan).look
    if not watch:
        status = look()
        view.show(status)
        return 1 if status.broken else 0
    try:
        return 1 if view.follow(look, lambda: time.sleep(REFRESH_S)).broken else 0
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    main(command)
