"""Prints the digests of finished sweeps, as `digests.csv` has them.

A developer runs it when the numbers of trials have changed on purpose:
`python -m jobs.mnist_ablation.published --store results --sweep mnist,figure3`.
"""

import csv
import sys
from collections.abc import Sequence
from dataclasses import astuple, fields

import click

from cluster.report.publish import require_complete
from cluster.results.collect import collect, stored_plans
from jobs.mnist_ablation.experiment import ABLATION
from jobs.mnist_ablation.published.comparison import DATA_LINE, TrialDigests, found_digests_of
from jobs.options import help_text, main, store_options, sweep_names
from pcworker.errors import InputError
from pcworker.store.store import open_store


@click.command(help=help_text(__doc__), context_settings={"max_content_width": 100})
@store_options
@sweep_names
def command(store: str, s3_endpoint: str | None, sweep: Sequence[str]) -> None:
    """The command line: see the module's docstring."""
    opened = open_store(store, s3_endpoint)
    click.echo(DATA_LINE)
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(["sweep", "trial_id", *(field.name for field in fields(TrialDigests))])
    for plan in stored_plans(opened, sweep, {ABLATION.name: ABLATION}):
        if plan.is_older or plan.sums != "fixed":
            raise InputError(
                f"sweep {plan.name}: only trials in fixed sums have digests to publish"
            )
        collected = collect(opened, [plan])
        require_complete(collected)
        ids = sorted(trial.trial_id for trial in plan.trials)
        found = found_digests_of(collected.tables, ids)
        out.writerows([plan.name, trial_id, *astuple(each)] for trial_id, each in found.items())


if __name__ == "__main__":
    main(command)
