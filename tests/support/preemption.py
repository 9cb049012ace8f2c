"""Measures how much work is lost with a node, with a notice and without one. Two nodes of a real
Ray are on this machine. A worker trains all of MNIST, and its node goes in the middle of the second
epoch: it is drained, or all its processes are killed. The other node goes on.

    python tests/support/preemption.py
"""

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray_clusters import RayCluster, ray_cluster

from cluster.driver.dispatch import Dispatcher
from cluster.driver.events import Event, Finished, Running, Suspended
from cluster.nodes.resources import Resources, ray_environment
from cluster.sweeps.plan import Plan, make_plan
from cluster.sweeps.stored import store_plan
from jobs.mnist_ablation.experiment import ABLATION, ablation_engine
from jobs.mnist_ablation.sweep import mnist_ablation
from pcworker.data.mnist import load_digits
from pcworker.store.local import LocalStore
from pcworker.store.tables import SHARD_TABLES
from pcworker.worker import Work

EPOCHS = 2
GOES_AT = 0.75
"""The share of the shard's work that is done when its node goes: half of the second epoch."""
ONE_WORKER = Resources(workers=1, cpus=1, gpus=0, device="cpu")


@dataclass
class Watch:
    """Measures for how long workers were at the shard, and takes away its node once."""

    take_away: Callable[[str], None]
    """Is given the id of the node."""
    seconds: float = 0.0
    """The time of all attempts that have ended."""
    finished: Finished | None = None
    _began: float = 0.0
    _taken: bool = False

    def begin(self) -> None:
        """An attempt begins."""
        self._began = time.monotonic()

    def hear(self, event: Event) -> None:
        if isinstance(event, Running) and event.shards and not self._taken:
            [worker], [at] = event.workers, event.shards.values()
            if at.share >= GOES_AT:
                self._taken = True
                self._end()
                self.take_away(worker.node_id)
        elif isinstance(event, Suspended):  # the node was drained, and its worker went on till now
            self._end()
        elif isinstance(event, Finished):
            self.finished = event
            self._end()

    def _end(self) -> None:
        """An attempt ends, or would have ended here if its node had been killed."""
        now = time.monotonic()
        self.seconds += now - self._began
        self._began = now

    @property
    def lost(self) -> float:
        """The seconds that workers were at the shard, less those in which its result was made."""
        assert self.finished
        return self.seconds - self.finished.wall_seconds


def plan_of(store: LocalStore) -> Plan[Any]:
    """Shards of which an epoch of the longest takes about 20 s."""
    sweep = mnist_ablation(
        networks=["784-32-32-32-10"], seeds=[1], t=[16, 64], gamma=[0.1, 0.5, 1.0, 5.0, 10.0],
        sigma=[0.0], rules=["IL"], batch_size=4, epochs=EPOCHS,
    )  # fmt: skip
    plan = make_plan(ABLATION, sweep, "preempted")
    return store_plan(store, plan, {})


def measured(cluster: RayCluster, folder: Path, take_away: Callable[[str], None]) -> Watch:
    from cluster.driver.pools.on_ray import RayPool

    store = LocalStore(folder)
    plan = plan_of(store)
    shards = sorted(plan.shards, key=lambda shard: -ABLATION.seconds(shard.trials))[:1]
    work = Work(
        sweep=plan.name,
        store=store,
        device="cpu",
        cpus=1,
        make_engine=ablation_engine,
        tables=SHARD_TABLES,
    )
    watch = Watch(take_away)

    class Noted(RayPool):
        def submit(self, *arguments: Any) -> None:
            watch.begin()
            super().submit(*arguments)

    pool = Noted(work, load_digits(None), ONE_WORKER)
    pool.start(1)
    Dispatcher(pool).run(shards, lambda shard: (), watch.hear)
    return watch


def main() -> None:
    os.environ.pop("RAY_ADDRESS", None)
    with ray_cluster() as cluster, tempfile.TemporaryDirectory() as folder:
        environment = cluster.environment()
        os.environ |= {name: environment[name] for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH")}
        ray_environment(cluster.address)  # it must be called before ray is imported
        from cluster.nodes.connect import connected

        def kill(node_id: str) -> None:
            import ray

            [address] = [n["NodeManagerAddress"] for n in ray.nodes() if n["NodeID"] == node_id]
            cluster.kill(next(node for node in cluster.nodes if node.address == address))

        ways: dict[str, Callable[[str], None]] = {
            "with a notice of 120 s": lambda node_id: cluster.drain(node_id, 120),
            "without a notice": kill,
        }
        for number, (way, take_away) in enumerate(ways.items()):
            while len(cluster.nodes) < 2 + number:
                cluster.add()
            with connected(cluster.address):
                watch = measured(cluster, Path(folder, str(number)), take_away)
            done = watch.finished
            assert done and done.resumed_from
            print(
                f"{way}: {watch.lost:.1f} s of a worker's time are lost; the shard took "
                f"{done.wall_seconds:.1f} s for {EPOCHS} epochs, and went on after epoch "
                f"{done.resumed_from:.3f}"
            )


if __name__ == "__main__":
    main()
