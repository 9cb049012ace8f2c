"""The look before a sweep, as `jobs.preflight` and the jobs themselves take it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from cluster.experiment import Experiment
from cluster.nodes.resources import Resources
from cluster.preflight.findings import Found, RayFound
from cluster.preflight.node import versions
from cluster.preflight.verdicts import RUN_ANYWAY, Verdict, failed, summary, verdicts
from cluster.sweeps.plan import Shard
from pcworker.errors import DataError, InputError
from pcworker.store.store import Store

if TYPE_CHECKING:
    from cluster.nodes.connect import Connection

_STYLES = {"FAIL": "red", "warn": "yellow"}


def find_out(
    store: Store, needs: Resources, experiment: Experiment, data: Path | None, address: str | None
) -> Found:
    """Looks at all there is, without a sweep.

    experiment  says what `data` must be
    address     as `ray_environment` returned it; None: a local Ray is started for it
    """
    from cluster.nodes.connect import (
        connected,  # these import ray, which reads its environment then
    )
    from cluster.preflight.look import look_at_ray, look_at_store

    what, images, no_data = "", None, None
    try:
        there = experiment.find_data(data, ())
        what, images = experiment.data_name(there), experiment.images_of(there)
    except DataError as error:
        no_data = str(error)
    ray: RayFound | str
    try:
        with connected(address, ships=True) as cluster:
            ray = look_at_ray(cluster, needs, images=images)
    except InputError as error:
        ray = str(error)
    return Found(look_at_store(store), ray, what, no_data, versions())


def print_verdicts(made: Sequence[Verdict], console: Console) -> None:
    """A line each."""
    for verdict in made:
        console.print(str(verdict), style=_STYLES.get(verdict.status), soft_wrap=True)


def require_ready(
    cluster: "Connection",
    store: Store,
    needs: Resources,
    experiment: Experiment,
    left: Sequence[Shard],
    data: Any,
    console: Console,
) -> None:
    """Before a sweep: one line where all is well, else the lines that are not, and InputError if
    it should not start.

    left  the shards to run
    data  that was found for the workers
    """
    from cluster.preflight.look import look_at_ray, look_at_store

    images = experiment.images_of(data)
    # the workers of a local Ray try this machine themselves, seconds later: `require_exact`
    ray = look_at_ray(cluster, needs, images=images, ask_nodes=not cluster.local)
    found = Found(
        look_at_store(store),
        ray,
        experiment.data_name(data),
        None,
        versions(),
        needed_bytes=sum(experiment.stored_bytes(shard.trials) for shard in left),
        exact=experiment.exact,
    )
    made = verdicts(found)
    bad = [verdict for verdict in made if verdict.status in _STYLES]
    print_verdicts(bad, console)
    if failed(made):
        wrong = [verdict for verdict in made if verdict.status == "FAIL"]
        why = "; ".join(f"{v.check}: {v.found}" + (f"; {v.remedy}" * bool(v.remedy)) for v in wrong)
        raise InputError(
            f"{len(wrong)} of {len(made)} checks before the sweep failed and nothing was started "
            f"({RUN_ANYWAY}): {why}"
        )
    if not bad:
        console.print(summary(made))
