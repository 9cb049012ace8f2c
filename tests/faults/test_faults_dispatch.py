"""Engines that fail in ways no command line can bring about, and what dispatch and commit cost."""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from builders import collected as tables_of
from faults import (
    NAME,
    NETWORKS,
    assert_nothing_lost,
    assert_trained_once,
    collected,
    commits,
    undisturbed,
    unfinished,
)
from overhead import SHARDS, measured
from tables import RESULTS, equal_tables

from cluster.driver.dispatch import Dispatcher
from cluster.driver.events import Failed, Finished
from cluster.nodes.resources import Resources, ray_environment
from cluster.sweeps.plan import Plan, make_plan, read_plan, store_plan
from jobs.experiments import EXPERIMENTS
from jobs.mnist_ablation.experiment import ABLATION, ablation_engine
from jobs.mnist_ablation.sweep import mnist_ablation
from pcworker.data.mnist import load_digits
from pcworker.store.local import LocalStore
from pcworker.store.tables import SHARD_TABLES
from pcworker.training.checkpoint import Checkpoint
from pcworker.training.results import ShardResult
from pcworker.trials.trial import Trial

pytestmark = pytest.mark.faults

ONE_WORKER = Resources(workers=1, cpus=0.25, gpus=0, device="cpu")
"""A quarter of a core, so that workers that are just ending never stand in the way."""
MORE_EPOCHS = 6
TOO_MUCH = 2**60
"""Bytes that no machine has."""


@pytest.fixture(scope="module")
def on_ray() -> Iterator[ModuleType]:
    """The module `cluster.driver.on_ray`, connected to a Ray whose workers find our files."""
    ray_environment(None)  # before ray is imported
    with pytest.MonkeyPatch.context() as to:
        to.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        import ray

        from cluster.driver import on_ray
        from cluster.nodes import connect

        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        with connect.connected(None):
            yield on_ray


class Narrow:
    """An engine without memory for a network's stacks of more than one trial: what a wide one
    wants numpy does not get, what a half-wide one wants torch does not get."""

    def __init__(self, digits: Any, device: Any) -> None:
        from pcworker.training.engine import Engine

        self._engine = Engine(digits, device)

    def run(self, trials: Sequence[Trial], *, max_width: int | None, **rest: Any) -> ShardResult:
        import torch

        if trials[0].configuration.network == NETWORKS[0]:
            width = max_width or len(trials)
            if width > len(trials) // 2:
                np.empty(TOO_MUCH, np.uint8)
            elif width > 1:
                torch.empty(TOO_MUCH, dtype=torch.uint8)
        return self._engine.run(trials, max_width=max_width, **rest)


class DiesAfterEveryCheckpoint:
    """An engine whose process kills itself as soon as a checkpoint is saved."""

    def __init__(self, digits: Any, device: Any) -> None:
        from pcworker.training.engine import Engine

        self._engine = Engine(digits, device)

    def run(
        self, trials: Sequence[Trial], *, save: Callable[[Checkpoint], None], **rest: Any
    ) -> ShardResult:
        def die(checkpoint: Checkpoint) -> None:
            save(checkpoint)
            os.kill(os.getpid(), signal.SIGKILL)

        return self._engine.run(trials, save=die, **rest)


def run(
    on_ray: ModuleType, plan: Plan, store: LocalStore, **engine: Any
) -> tuple[list[Finished], list[Failed]]:
    """Runs a plan on all of MNIST; returns what became of its attempts."""
    from pcworker.worker import Work

    store_plan(store, plan, {})
    work = Work(
        sweep=plan.name,
        store=store,
        device="cpu",
        cpus=1,
        tables=SHARD_TABLES,
        **{"make_engine": ablation_engine, **engine},
    )
    pool = on_ray.RayPool(work, load_digits(None), ONE_WORKER)
    pool.start(len(plan.shards))
    events: list[Any] = []
    assert Dispatcher(pool).run(plan.shards, lambda shard_id: False, events.append) == 0
    return (
        [event for event in events if isinstance(event, Finished)],
        [event for event in events if isinstance(event, Failed)],
    )


def test_a_shard_without_memory_is_run_in_stacks_of_half_the_width(
    on_ray: ModuleType, tmp_path: Path
) -> None:
    store, plan = LocalStore(tmp_path), read_plan(undisturbed(), NAME, EXPERIMENTS)
    assert plan is not None
    _, failed = run(on_ray, plan, store, make_engine=Narrow)
    assert [event.kind for event in failed] == ["memory", "memory"]
    assert not any(event.quarantined for event in failed)
    assert {event.shard.trials[0].configuration.network for event in failed} == {NETWORKS[0]}
    assert "MemoryError" in failed[0].error
    assert "can't allocate memory" in failed[1].error
    before = commits(store)
    assert collected(store).code == 0
    assert_trained_once(store)
    assert_nothing_lost(store, before)


def test_a_worker_that_dies_at_every_epochs_end_trains_no_epoch_twice(
    on_ray: ModuleType, tmp_path: Path
) -> None:
    sweep = mnist_ablation(
        networks=["784-16-16-10"],
        seeds=[1],
        t=[None, 1],
        gamma=[0.5, 1.0],
        sigma=[0.0, 0.1],
        rules=("BP", "IL", "Z-IL", "Fa-Z-IL"),
        epochs=MORE_EPOCHS,
        batch_size=500,
    )
    plan = make_plan(ABLATION, sweep, NAME)
    dying, living = LocalStore(tmp_path / "dying"), LocalStore(tmp_path / "living")
    [finished], failed = run(on_ray, plan, dying, make_engine=DiesAfterEveryCheckpoint)
    assert [event.kind for event in failed] == ["lost"] * (MORE_EPOCHS - 1)  # an epoch each
    assert (finished.outcome, finished.resumed_from) == ("committed", MORE_EPOCHS - 1)
    assert not unfinished(dying)

    [finished], failed = run(on_ray, plan, living)
    assert (finished.resumed_from, failed) == (0, [])
    ours, theirs = tables_of(dying, NAME).tables, tables_of(living, NAME).tables
    for name in RESULTS:
        assert ours[name].num_rows > 0
        assert equal_tables(ours[name], theirs[name]), f"{name} differs"


def test_two_thousand_shards_leave_the_drivers_memory_as_it_is(
    on_ray: ModuleType, tmp_path: Path
) -> None:
    overhead = measured(on_ray, LocalStore(tmp_path), SHARDS)
    print(overhead)
    assert overhead.shards == SHARDS == len(overhead.wall_ms)
    assert overhead.final_bytes - overhead.early_bytes < 30 * 2**20
