"""The preflight as a whole, for `jobs.preflight` and for every job that is about to start."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from cluster.experiment import Experiment
from cluster.nodes.resources import Resources
from cluster.preflight.checks import verdicts
from cluster.preflight.findings import Found, RayFound
from cluster.preflight.node import versions
from cluster.preflight.store import look_at_store
from cluster.preflight.verdicts import RUN_ANYWAY, Verdict, failed, summary
from cluster.sweeps.plan import Plan, Shard
from pcworker.errors import DataError, InputError
from pcworker.machine.processor import SAME_EVERYWHERE
from pcworker.store.store import Store

if TYPE_CHECKING:
    from cluster.nodes.connect import Connection

_STYLES = {"FAIL": "red", "warn": "yellow"}


def find_out(
    store: Store,
    needs: Resources,
    experiment: Experiment,
    sums: str,
    data: Path | None,
    address: str | None,
) -> Found:
    """Finds out everything that can be known without a sweep.

    experiment  the experiment, which knows what `data` must be
    sums        the sums that its trials would have
    address     the address that `ray_environment` returned; None: a local Ray is started
    """
    # Importing these imports ray, which reads its environment at that moment.
    from cluster.nodes.connect import connected
    from cluster.preflight.look import look_at_ray

    what, images, no_data = "", None, None
    try:
        there = experiment.find_data(data, ())
        what, images = experiment.data_name(there), experiment.images_of(there)
    except DataError as error:
        no_data = str(error)
    ray: RayFound | str
    try:
        with connected(address, ships=True) as cluster:
            ray = look_at_ray(cluster, needs, sums=sums, images=images)
    except InputError as error:
        ray = str(error)
    return Found(look_at_store(store), ray, what, no_data, versions(), sums=sums)


def print_verdicts(made: Sequence[Verdict], console: Console) -> None:
    """Prints each verdict as one line."""
    for verdict in made:
        console.print(str(verdict), style=_STYLES.get(verdict.status), soft_wrap=True)


def require_ready(
    cluster: "Connection | None",
    store: Store,
    needs: Resources,
    plan: Plan[Any],
    left: Sequence[Shard],
    data: Any,
    environment: Mapping[str, str],
    console: Console,
) -> None:
    """Prints one line if every check passes, and otherwise the verdicts that are not ok. Raises
    InputError if the sweep should not start.

    cluster      the cluster that the workers will use. None: they need none, and only the store
                 and the data are looked at
    left         the shards of the plan that are to run
    data         the data that were found for the workers
    environment  variables with which the workers' processes will start
    """
    experiment = plan.experiment
    images = experiment.images_of(data)
    found = Found(
        look_at_store(store),
        None if cluster is None else _look_at(cluster, needs, plan.sums, images, environment),
        experiment.data_name(data),
        None,
        versions(),
        needed_bytes=sum(experiment.stored_bytes(shard.trials) for shard in left),
        exact=experiment.exact,
        sums=plan.sums,
        same_everywhere=environment.items() >= SAME_EVERYWHERE.items(),
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


def _look_at(
    cluster: "Connection",
    needs: Resources,
    sums: str,
    images: str | None,
    environment: Mapping[str, str],
) -> RayFound:
    # Importing this imports ray, which reads its environment at that moment.
    from cluster.preflight.look import look_at_ray

    # A local Ray's workers test this machine themselves a few seconds later, by `require_exact`.
    return look_at_ray(
        cluster,
        needs,
        sums=sums,
        images=images,
        environment=environment,
        ask_nodes=not cluster.local,
    )
