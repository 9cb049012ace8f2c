"""Finds what would break an expensive run before it starts, in seconds and without training.

It prints a line for each check: ok, warn, FAIL (with what to do), or skip if it could not be made.
The exit code is 0 if no check failed, and 2 otherwise. Every job makes these checks itself before
it starts, unless it is given --no-preflight. Without --address, the checks are made on the local
Ray that a job would start.
"""

from pathlib import Path
from typing import Any

import click

from cluster.nodes.resources import ray_environment
from cluster.preflight.before import find_out, print_verdicts
from cluster.preflight.checks import verdicts
from cluster.preflight.verdicts import failed
from jobs.experiments import DEFAULT_EXPERIMENT, EXPERIMENTS
from jobs.options import (
    console,
    help_text,
    main,
    preflight_options,
    resources_from,
    sums_option,
)
from pcworker.store.store import open_store


@click.command(help=help_text(__doc__), context_settings={"max_content_width": 100})
@click.option(
    "--experiment",
    type=click.Choice(list(EXPERIMENTS)),
    default=DEFAULT_EXPERIMENT,
    show_default=True,
    help="Experiment whose data must be found; --data says where they are.",
)
@sums_option
@preflight_options
def command(
    store: str,
    s3_endpoint: str | None,
    experiment: str,
    sums: str,
    data: Path | None,
    address: str | None,
    **given: Any,
) -> int:
    """The command line: see the module's docstring."""
    needs = resources_from(given)
    opened = open_store(store, s3_endpoint)
    asked = EXPERIMENTS[experiment]
    sums = sums if asked.exact else "library"
    found = find_out(opened, needs, asked, sums, data, ray_environment(address))
    made = verdicts(found)
    print_verdicts(made, console)
    return 2 if failed(made) else 0


if __name__ == "__main__":
    main(command)
