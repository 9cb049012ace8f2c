"""Engines fail in ways that no command line can bring about; and what dispatch and commit cost."""

import io
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import overhead
import pytest
import torch
from builders import commit
from dispatching import Known, assignment, dispatcher
from faults import NAME, assert_trained_once, commits, unfinished
from made_up import made_up_digits
from rich.console import Console
from running import wait_until

from cluster.driver.drive import drive
from cluster.driver.events import Failed, Finished
from cluster.driver.record.heartbeat import Heartbeat
from cluster.driver.site import in_this_process
from cluster.nodes.resources import Resources
from cluster.sweeps.plan import Plan, Shard, make_plan
from cluster.sweeps.stored import store_plan
from jobs.mnist_ablation.experiment import ABLATION
from jobs.mnist_ablation.sweep import mnist_ablation
from pcworker.store.local import LocalStore
from pcworker.store.tables import SHARD_TABLES, result_digest
from pcworker.training.checkpoint import Checkpoint
from pcworker.training.engine import Engine
from pcworker.training.results import ShardResult
from pcworker.trials.trial import Trial

pytestmark = pytest.mark.faults

ONE_WORKER = Resources(workers=1, cpus=0.25, gpus=0, device="cpu")
"""A quarter of a core, so that workers that are just ending never stand in the way."""
EPOCHS = 3
TOO_MUCH = 2**60
"""Bytes that no machine has."""


@pytest.fixture(scope="module")
def on_ray() -> Iterator[ModuleType]:
    """The module `cluster.driver.pools.on_ray`, connected to a Ray whose workers find our files."""
    import ray

    from cluster.driver.pools import on_ray
    from cluster.nodes import connect

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with pytest.MonkeyPatch.context() as to:
        to.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        with connect.connected(None):
            yield on_ray


class Narrow:
    """An engine without memory for stacks of more than one trial. In a stack of more than half the
    trials numpy asks for too much, in a narrower one torch does."""

    def __init__(self, digits: Any, device: Any) -> None:
        from pcworker.training.engine import Engine

        self._engine = Engine(digits, device)

    def run(self, trials: Sequence[Trial], *, max_width: int | None, **rest: Any) -> ShardResult:
        import torch

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


def plan_and_shard() -> tuple[Plan, Shard]:
    """A plan of one shard."""
    sweep = mnist_ablation(
        networks=["784-32-32-10"], seeds=[1], t=[None, 1], gamma=[1.0], sigma=[0.0, 0.1],
        rules=["BP", "IL", "Z-IL", "Fa-Z-IL"], epochs=EPOCHS,
    )  # fmt: skip
    plan = make_plan(ABLATION, sweep, NAME)
    [shard] = plan.shards
    return plan, shard


def run(
    on_ray: ModuleType, plan: Plan, shard: Shard, store: LocalStore, make_engine: Any
) -> tuple[Finished, list[Failed]]:
    """Runs a shard on a few made-up digits. Returns the attempt that finished, and those that
    failed."""
    from pcworker.worker import Work

    store_plan(store, plan, {})
    work = Work(
        sweep=plan.name,
        store=store,
        device="cpu",
        cpus=1,
        tables=SHARD_TABLES,
        make_engine=make_engine,
    )
    pool = on_ray.RayPool(work, made_up_digits(), ONE_WORKER)
    pool.start(1)
    events: list[Any] = []
    assert dispatcher(pool, events.append).run([shard], Known()).left == ()
    [finished] = [event for event in events if isinstance(event, Finished)]
    return finished, [event for event in events if isinstance(event, Failed)]


def assert_equal_results(store: LocalStore, shard: Shard, cpu: torch.device) -> None:
    """Fails unless a shard's weights, metrics and twins are those of the engine in this process."""
    ours = json.loads(commits(store)[shard.shard_id])
    theirs = Engine(made_up_digits(), cpu).run(shard.trials)
    assert set(ours["trial_ids"]) == {trial.trial_id for trial in shard.trials}
    assert ours["result_digest"] == result_digest(theirs)
    assert ours["twins"] == dict(theirs.twins)
    assert_trained_once(store)
    assert not unfinished(store)


def test_a_shard_without_memory_is_run_in_stacks_of_half_the_width(
    on_ray: ModuleType, cpu: torch.device, tmp_path: Path
) -> None:
    store, (plan, shard) = LocalStore(tmp_path), plan_and_shard()
    assert len(shard.trials) == 5
    finished, failed = run(on_ray, plan, shard, store, Narrow)
    assert finished.outcome == "committed"
    assert [event.kind for event in failed] == ["memory", "memory"]
    assert not any(event.quarantined for event in failed)
    assert "MemoryError" in failed[0].error
    assert "can't allocate memory" in failed[1].error
    assert all("pcworker/actor.py" in event.traceback for event in failed)
    assert_equal_results(store, shard, cpu)


def test_a_worker_that_dies_at_every_epochs_end_trains_no_epoch_twice(
    on_ray: ModuleType, cpu: torch.device, tmp_path: Path
) -> None:
    store, (plan, shard) = LocalStore(tmp_path), plan_and_shard()
    finished, failed = run(on_ray, plan, shard, store, DiesAfterEveryCheckpoint)
    assert [event.kind for event in failed] == ["lost"] * (EPOCHS - 1)  # an epoch each
    assert (finished.outcome, finished.resumed_from) == ("committed", EPOCHS - 1)
    assert_equal_results(store, shard, cpu)


class Noting(LocalStore):
    """A store that notes the keys of what is done with it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.got: list[str] = []
        self.listed: list[str] = []

    def get(self, key: str) -> bytes | None:
        self.got.append(key)
        return super().get(key)

    def list(self, prefix: str) -> list[str]:
        found = super().list(prefix)
        self.listed.append(prefix)
        return found


def test_what_another_driver_has_committed_meanwhile_is_stepped_over_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another driver is alive, this one lists the commits now and then, and asks for none of
    them by itself."""
    monkeypatch.setattr("cluster.driver.record.clerk.OTHERS_EVERY_S", 0.0)
    monkeypatch.setattr("cluster.driver.record.clerk.COMPANY_S", 0.0)
    networks = [f"784-{width}-10" for width in range(1, 41)]
    sweep = mnist_ablation(
        networks=networks, seeds=[1], t=[None], gamma=[1.0], sigma=[0.0], rules=["BP"]
    )
    plan, store = make_plan(ABLATION, sweep, "meanwhile"), Noting(tmp_path)

    def another_driver(trials: Any, width: Any) -> None:
        """Commits all other shards, while this driver trains its first one."""
        for shard in plan.shards[1:]:
            commit(LocalStore(tmp_path), plan, shard)
        Heartbeat(LocalStore(tmp_path), plan.name).beat()
        store.got, store.listed = [], []
        # The second list has begun after the commits.
        assert wait_until(lambda: store.listed.count(plan.keys.shards) >= 3)

    text = io.StringIO()
    work = assignment(plan, store, another_driver, ONE_WORKER)
    drive(work, in_this_process(), Console(file=text, width=1000))
    assert text.getvalue().count("event=committed") == 1
    assert text.getvalue().count("event=elsewhere") == len(networks) - 1
    assert [key for key in store.got if key.endswith("commit.json")] == []


@pytest.mark.parametrize(
    ("shards", "growth_bytes"),
    [(300, 2_500_000), pytest.param(overhead.SHARDS, 30 * 2**20, marks=pytest.mark.long)],
)
def test_many_shards_leave_the_drivers_memory_as_it_is(
    on_ray: ModuleType, tmp_path: Path, shards: int, growth_bytes: int
) -> None:
    """A driver that kept 20 kB for each shard would exceed these bounds."""
    found = overhead.measured(on_ray, LocalStore(tmp_path), shards)
    print(found)
    assert found.shards == shards == len(found.wall_ms)
    assert found.growth < growth_bytes
