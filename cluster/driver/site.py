"""The place where a sweep's workers run: a Ray cluster, or the driver's own process."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from cluster.driver.events import Event
from cluster.driver.pools.in_process import InProcessPool
from cluster.driver.pools.pool import Pool
from cluster.nodes.resources import Resources
from pcworker.worker import Work

if TYPE_CHECKING:
    from cluster.nodes.connect import Connection


class Listener(Protocol):
    """Whoever listens to the events of a sweep."""

    def hear(self, event: Event) -> None:
        """Is called with every event."""


@dataclass(frozen=True)
class Site:
    """A place where workers can run."""

    where: str
    """In words, to follow "Running"."""
    cluster: "Connection | None"
    """The connection to Ray, if there is one."""
    pool: Callable[[Work, Any], Pool]
    """Makes the pool of workers, from their work and the data. InputError if they will never
    fit."""
    metrics: Callable[[str, int, int], Listener] | None = None
    """Makes the listener that counts for Ray, from the sweep's name and the numbers of its shards
    and of those that are done."""

    @property
    def for_debugging(self) -> bool:
        """True if a debugger may stop in a trial. Then nothing else may write to the terminal."""
        return self.cluster is None


@contextmanager
def on_ray(address: str | None, needs: Resources) -> Iterator[Site]:
    """Connects to Ray.

    address  as `cluster.nodes.resources.ray_environment` returned it
    """
    # Importing these imports ray, which reads its environment at that moment.
    from cluster.driver.metrics import Metrics
    from cluster.driver.pools.on_ray import RayPool
    from cluster.nodes.connect import connected

    with connected(address) as cluster:
        pool = partial(RayPool, needs=needs, growth=cluster.growth)
        yield Site(f"on {cluster.where}", cluster, pool, Metrics)


@contextmanager
def in_this_process() -> Iterator[Site]:
    """Needs nothing, neither Ray nor another process."""
    yield Site("in this process, without Ray: one shard at a time", None, InProcessPool)
