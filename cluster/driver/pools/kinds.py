"""The kinds of workers of a pool on Ray, and the actor class of each."""

from dataclasses import dataclass
from typing import Any

import ray

from cluster.driver.pools.shortage import Shortage
from cluster.nodes.resources import Resources
from pcworker.actor import WorkerActor
from pcworker.machine.places import MOST_PLACES
from pcworker.worker import Work


@dataclass(frozen=True)
class WorkerKind:
    """One kind of workers: those that the user asked for, or CPU workers beside GPU workers."""

    needs: Resources
    work: Work
    actor: Any
    """The class of its actors, as Ray knows it."""
    slow: bool
    shortage: Shortage
    """The lack of room for such workers."""


def kind_of_workers(work: Work, needs: Resources, *, slow: bool) -> WorkerKind:
    """Makes the class of actors that do this work.

    slow  True for CPU workers beside GPU workers
    """
    options: dict[str, Any] = {"max_restarts": 0, "max_task_retries": 0}
    # Ray's head would keep a record of each of the last 100,000 calls, at 3 kB each.
    options["enable_task_events"] = False
    options["concurrency_groups"] = {"control": 1}
    # Only the worker itself knows its GPU, so Ray allows for as many shards as there may ever be.
    options["max_concurrency"] = work.places or MOST_PLACES
    # What is not said here would be unknown to the autoscaler, which starts nodes for it.
    options |= {"num_cpus": needs.cpus, "num_gpus": needs.gpus}
    if work.environment:  # A runtime environment costs Ray time, even an empty one.
        options["runtime_env"] = {"env_vars": dict(work.environment)}
    actor = ray.remote(**options)(WorkerActor)
    return WorkerKind(needs, work, actor, slow, Shortage(str(needs)))
