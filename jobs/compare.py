"""Compares two sweeps cell by cell: which are equal bit for bit, and how far apart the others are.

The sweeps may be of different machines, versions, engines and stores. Trials with the same
configuration and seed are compared: the sha256 of all weights, and every column that is a result.
Times are no results, and are shown as ratios. The exit code is 0 if both sweeps have the same
trials with the same bits, and 1 if they differ. Nothing is written into a store.
"""

from collections.abc import Sequence

import click
import pandas as pd

from cluster.comparison.facts import as_json_text, fact_rows
from cluster.comparison.show import comparison_page, print_comparison, write_page
from cluster.comparison.side import read_side
from cluster.comparison.verdict import compare_sides
from cluster.comparison.weights import with_weights
from cluster.results.collect import stored_plans
from cluster.sweeps.plan import Plan
from jobs.experiments import EXPERIMENTS
from jobs.options import TEXTS, console, help_text, main, store_options
from pcworker.errors import InputError
from pcworker.store.store import Store, open_store


@click.command(help=help_text(__doc__), context_settings={"max_content_width": 100})
@click.argument("a")
@click.argument("b")
@store_options
@click.option("--other-store", help="Where B is kept.  [default: the same as A]")
@click.option(
    "--ignore",
    type=TEXTS,
    metavar="FIELDS",
    default=(),
    help="Fields of the configuration that may differ, such as sums, with commas.",
)
@click.option(
    "--format",
    "kind",
    default="table",
    show_default=True,
    type=click.Choice(["table", "csv", "json"]),
    help="csv and json hold every measure.",
)
@click.option(
    "--page", metavar="FILE", type=click.Path(dir_okay=False),
    help="Also write the comparison as one page of HTML.",
)  # fmt: skip
def command(
    a: str,
    b: str,
    store: str,
    s3_endpoint: str | None,
    other_store: str | None,
    ignore: Sequence[str],
    kind: str,
    page: str | None,
) -> int:
    """The command line: see the module's docstring. Returns 1 if the sweeps differ."""
    first = _opened(store, s3_endpoint) if other_store else open_store(store, s3_endpoint)
    second = _opened(other_store, s3_endpoint) if other_store else first
    mine, others = _plan(first, a), _plan(second, b)
    if mine.experiment is not others.experiment:
        raise InputError(
            f"sweep {a} is of the experiment {mine.experiment.name} and {b} of "
            f"{others.experiment.name}; only sweeps of one experiment can be compared"
        )
    verdict = compare_sides(read_side(first, mine, ignore), read_side(second, others, ignore))
    verdict = with_weights(verdict, (first, mine), (second, others))
    if page is not None:
        write_page(page, comparison_page(verdict))
    if kind == "table":
        print_comparison(console, verdict)
    elif kind == "csv":
        click.echo(pd.DataFrame(fact_rows(verdict)).to_csv(index=False), nl=False)
    else:
        click.echo(as_json_text(verdict))
    return 0 if verdict.is_equal else 1


def _opened(url: str, s3_endpoint: str | None) -> Store:
    """One of two stores. The endpoint is for those that are buckets."""
    return open_store(url, s3_endpoint if url.startswith("s3://") else None)


def _plan(store: Store, name: str) -> Plan:
    [plan] = stored_plans(store, [name], EXPERIMENTS)
    return plan


if __name__ == "__main__":
    main(command)
