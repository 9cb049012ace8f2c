"""A small sweep that goes through the dispatcher, on any pool, and what it leaves in its store."""

import json
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from builders import shard_result

from cluster.driver.budget import Budget, Ledger
from cluster.driver.dispatch import Dispatcher
from cluster.driver.drive import Assignment
from cluster.driver.events import Event, Trouble
from cluster.driver.hangs import HANG_MINUTES, Watch
from cluster.driver.pools.pool import Pool
from cluster.nodes.prices import Prices
from cluster.nodes.resources import Resources
from cluster.sweeps.plan import Plan, Shard, make_plan
from jobs.mnist_ablation.experiment import ABLATION
from jobs.mnist_ablation.sweep import mnist_ablation
from pcworker.store.local import LocalStore
from pcworker.training.results import ShardResult
from pcworker.trials.trial import Trial

NO_LIMIT = Budget()
ONE_CORE = Resources(workers=1, cpus=1, gpus=0, device="cpu")
RULES = ("BP", "IL", "Z-IL", "Fa-Z-IL")


class Makes:
    """An engine that makes up its results at once, after `act` has seen what it is to train."""

    def __init__(self, act: Callable[[Sequence[Trial], int | None], None]) -> None:
        self._act = act

    def __call__(self, data: Any, device: Any) -> "Makes":
        return self

    def run(self, trials: Sequence[Trial], *, max_width: int | None, **_: Any) -> ShardResult:
        self._act(trials, max_width)
        return shard_result(trials)


def small_plan(*networks: str, epochs: int = 1, name: str = "small") -> Plan:
    """A shard per network, of Z-IL, IL, Fa-Z-IL and BP."""
    sweep = mnist_ablation(
        networks=networks,
        seeds=[1],
        t=[None, 1],
        gamma=[1.0],
        sigma=[0.0],
        rules=RULES,
        epochs=epochs,
    )
    plan = make_plan(replace(ABLATION, pack=_by_network), sweep, name)
    assert len(plan.shards) == len(networks)
    return plan


def _by_network(trials: Sequence[Trial]) -> list[list[Trial]]:
    """Packs the trials of each network into one shard."""
    networks = dict.fromkeys(trial.configuration.network for trial in trials)
    return [[t for t in trials if t.configuration.network == network] for network in networks]


def assignment(
    plan: Plan, store: LocalStore, act: Callable[..., None], resources: Resources
) -> Assignment:
    """All shards of a plan, for a driver whose engine calls `act` and then makes up its results."""
    return Assignment(
        plan=replace(plan, experiment=replace(plan.experiment, engine=Makes(act))),
        left=plan.shards,
        opened=store,
        store=store,
        data=None,
        resources=resources,
        checkpoint_every=1,
        hang_minutes=HANG_MINUTES,
        budget=NO_LIMIT,
        prices=Prices(),
        preflight=False,
        expected="a moment",
        environment={},
    )


def dispatcher(pool: Pool, tell: Callable[[Any], None], budget: Budget = NO_LIMIT) -> Dispatcher:
    """A dispatcher with the usual patience, which no test exhausts."""
    ledger = Ledger(budget, Prices(core=3600.0), ONE_CORE, time.monotonic())
    return Dispatcher(pool, Watch({}, HANG_MINUTES * 60), ledger, tell)


class Known:
    """What the dispatcher is told of the store, where nothing changes."""

    def __init__(self, elsewhere: Collection[str] = ()) -> None:
        self.elsewhere, self.store_answers = elsewhere, True

    def told(self) -> list[Trouble]:
        return []


def dispatched(
    pool: Pool,
    plan: Plan,
    *,
    done: tuple[str, ...] = (),
    on: Callable[[Event], None] = lambda event: None,
) -> tuple[int, list[Any]]:
    """Runs a plan. Returns the number of quarantined shards and every event.

    done  the ids of the shards that another driver has committed
    on    hears the events as they come
    """
    events: list[Any] = []

    def tell(event: Event) -> None:
        events.append(event)
        on(event)

    for event in pool.start(len(plan.shards) - len(done)):
        tell(event)
    return len(dispatcher(pool, tell).run(plan.shards, Known(done)).quarantined), events


def of(kind: type, events: list[Any]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def files(store: Path) -> list[str]:
    return sorted(path.name for path in store.rglob("*") if path.is_file())


def only_a_plan(store: Path) -> bool:
    """True if the store holds a plan and nothing else."""
    return [Path(name).suffix for name in files(store)] == [".parquet", ".json"]


def commit_path(store: Path, plan: Plan, shard: Shard) -> Path:
    return store / "sweeps" / plan.name / "shards" / shard.shard_id / "commit.json"


def commit_of(store: Path, plan: Plan, shard: Shard) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(commit_path(store, plan, shard).read_bytes())
    return content
