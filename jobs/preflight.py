"""Looks for what would break an expensive run, before it starts: in seconds, and without training.

A line for each check: ok, warn, FAIL with what to do, or skip where it could not be looked at.
Exit codes: 0 nothing failed, 2 something did. Jobs look by themselves before they start;
--no-preflight skips that. Without --address it is the local Ray that a job would start.
"""

from pathlib import Path
from typing import Any

import click

from cluster.nodes.resources import ray_environment
from cluster.preflight.before import find_out, print_verdicts
from cluster.preflight.checks import verdicts
from cluster.preflight.verdicts import failed
from jobs.experiments import EXPERIMENTS
from jobs.options import console, help_text, main, preflight_options, resources_from
from pcworker.store.store import open_store


@click.command(help=help_text(__doc__), context_settings={"max_content_width": 100})
@click.option(
    "--experiment",
    type=click.Choice(list(EXPERIMENTS)),
    default=next(iter(EXPERIMENTS)),
    show_default=True,
    help="Whose data to look for: timing takes a directory of images, the others MNIST.",
)
@preflight_options
def command(
    store: str,
    s3_endpoint: str | None,
    experiment: str,
    data: Path | None,
    address: str | None,
    **given: Any,
) -> int:
    """The command line: see the module's docstring."""
    needs = resources_from(given)
    opened = open_store(store, s3_endpoint)
    found = find_out(opened, needs, EXPERIMENTS[experiment], data, ray_environment(address))
    made = verdicts(found)
    print_verdicts(made, console)
    return 2 if failed(made) else 0


if __name__ == "__main__":
    main(command)
