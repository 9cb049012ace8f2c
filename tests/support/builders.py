"""Results made up by hand, so that the values which must follow from them are known in closed form.

Base weights are multiples of 1/1024 and a drift is a power of two. So `base + drift` is exact in
float32, and every distance to the twin follows from the drift and the widths alone.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from cluster.experiment import Experiment
from cluster.results.collect import Collected, collect, stored_plans
from cluster.sweeps.columns import ColumnFile
from cluster.sweeps.plan import Plan, Shard, make_plan
from cluster.sweeps.stored import store_plan
from cluster.sweeps.sweep import Sweep
from jobs.experiments import EXPERIMENTS
from jobs.mnist_ablation.experiment import ABLATION
from jobs.mnist_ablation.sweep import mnist_ablation
from pcworker.machine.provenance import WorkerProvenance
from pcworker.plain import as_json
from pcworker.store.commit import CommitOutcome, commit_shard
from pcworker.store.keys import SweepKeys
from pcworker.store.local import LocalStore
from pcworker.store.sealed import seal, unseal
from pcworker.store.store import Store
from pcworker.store.tables import SHARD_TABLES, FailureRow
from pcworker.training.results import EpochMetrics, ShardResult, TrialResult
from pcworker.trials.configuration import Configuration, configuration
from pcworker.trials.digests import network_digest
from pcworker.trials.trial import Trial

Drift = Callable[[Trial], float | None]
"""Returns the amount by which every weight of a trial differs from its twin's; None if the trial's
weights do not stay finite."""


def tiny(rule: str = "Z-IL", **changes: Any) -> Configuration:
    """A configuration of a network with 10 weights."""
    return configuration(**{"network": "3-2-2", "rule": rule, **changes})


def where(sweep: str = "tiny", **changes: Any) -> WorkerProvenance:
    """The provenance of made-up results."""
    made = WorkerProvenance(
        code_sha256="c" * 64,
        git_commit=None,
        git_dirty=None,
        hostname="here",
        versions={"torch": "0.0"},
        sweep=sweep,
        device="cpu: by hand",
    )
    return replace(made, **changes)


def base_weights(trial: Trial) -> list[list[np.ndarray]]:
    """The twin's final weights. They depend only on the seed and the widths, and the first weight
    of each layer is 0.0."""
    config = trial.configuration
    random = np.random.default_rng(trial.seed)
    layers = [
        (random.integers(-512, 512, (n, m)) / 1024).astype(config.dtype)
        for n, m in pairwise(config.widths)
    ]
    for weight in layers:
        weight[0, 0] = 0.0
    return [[weight] for weight in layers]


def weights(trial: Trial, drift: float) -> list[list[np.ndarray]]:
    return [[p + p.dtype.type(drift) for p in layer] for layer in base_weights(trial)]


def l2(config: Configuration, drift: float) -> float:
    """The sum over layers of the L2 norm of a difference that is `drift` everywhere."""
    return sum(drift * math.sqrt(n * m) for n, m in pairwise(config.widths))


def l1(config: Configuration, drift: float) -> float:
    return drift * sum(n * m for n, m in pairwise(config.widths))


def trial_result(trial: Trial, drift: float | None = 0.0) -> TrialResult:
    """A result in which the twin's test error is 1/(2 epoch), and the trial's is higher by `drift`.
    With None the trial's weights are not finite in the first epoch."""
    config = trial.configuration
    if drift is None:
        nothing = [EpochMetrics()] * config.epochs
        return TrialResult(trial, nonfinite_epoch=1, updates=1, epochs=nothing)
    epochs = [
        EpochMetrics(
            test_error=0.5 / epoch + drift,
            twin_test_error=0.5 / epoch,
            train_energy=1.0 / epoch,
            weight_l2_to_twin=l2(config, drift),
            weight_l1_to_twin=l1(config, drift),
            weight_maxabs_to_twin=drift,
        )
        for epoch in range(1, config.epochs + 1)
    ]
    return TrialResult(trial, updates=100, epochs=epochs, parameters=weights(trial, drift))


def twin_digests(trials: Iterable[Trial]) -> dict[str, list[str]]:
    """The digests after each epoch, by twin. Only the last one is a digest of real weights."""
    return {
        twin.trial_id: [
            *(f"{twin.trial_id} after {epoch}" for epoch in range(1, twin.configuration.epochs)),
            network_digest(base_weights(twin)),
        ]
        for twin in dict.fromkeys(trial.twin for trial in trials)
    }


def shard_result(trials: Sequence[Trial], drift: Drift = lambda trial: 0.0) -> ShardResult:
    return ShardResult(
        trials=[trial_result(trial, drift(trial)) for trial in trials],
        twins=twin_digests(trials),
        packing="stacked",
        wall_seconds=1.5,
    )


def ablation(**changes: Any) -> Sweep:
    """`mnist_ablation` of a small network with small axes: 8 trials per seed."""
    axes: dict[str, Any] = {
        "networks": ["784-2-10"],
        "seeds": [1],
        "t": [None, 0, 16],
        "gamma": [1.0, 10.0],
        "sigma": [0.0, 0.1],
    }
    return mnist_ablation(**(axes | changes))


def paper_drift(trial: Trial) -> float | None:
    """A drift of 0 where the paper says that the rule is exact, None (not finite) for gamma = 10,
    and 1/8 elsewhere."""
    config = trial.configuration
    if config.rule in ("BP", "Fa-Z-IL"):
        return 0.0
    if config.gamma == 10:
        return None
    return 0.0 if config.rule == "Z-IL" and config.sigma == 0 else 0.125


def in_two(trials: Iterable[Trial[Any]]) -> list[list[Trial[Any]]]:
    """Packs the trials of each network and seed into two shards: with 16 inference steps or more,
    and the others. Today's packing has one shard for so little work."""
    groups: dict[Any, list[Trial[Any]]] = {}
    for trial in trials:
        config = trial.configuration
        steps = getattr(config, "last_step", 0)
        groups.setdefault((config.twin(), trial.seed, steps >= 16), []).append(trial)
    return list(groups.values())


def split_plan(sweep: Sweep, name: str, experiment: Experiment = ABLATION) -> Plan[Any]:
    """The plan of a sweep of ablations whose shards are `in_two`."""
    plan = make_plan(replace(experiment, pack=in_two), sweep, name)
    return replace(plan, experiment=experiment)


def planned(store: Store, sweep: Sweep, name: str, experiment: Experiment = ABLATION) -> Plan[Any]:
    """Makes the plan of a sweep and stores it. Ablations have more shards than they would have."""
    make = split_plan if experiment.name == ABLATION.name else _whole_plan
    plan = make(sweep, name, experiment)
    store_plan(store, plan, {})
    return plan


def _whole_plan(sweep: Sweep, name: str, experiment: Experiment) -> Plan[Any]:
    return make_plan(experiment, sweep, name)


def commit(
    store: Store,
    plan: Plan,
    shard: Shard,
    drift: Drift = paper_drift,
    attempt: str = "first",
    result: ShardResult | None = None,
    **host: Any,
) -> CommitOutcome:
    """Commits made-up results for one shard."""
    made = result or shard_result(shard.trials, drift)
    keys = SweepKeys(plan.name)
    return commit_shard(
        store, keys, shard.shard_id, attempt, made, SHARD_TABLES, where(plan.name, **host)
    )


def commit_all(store: Store, plan: Plan, drift: Drift = paper_drift) -> None:
    for shard in plan.shards:
        commit(store, plan, shard, drift)


def with_z_il_changed(shard: Shard, change: Callable[[TrialResult], TrialResult]) -> ShardResult:
    """The made-up results of a shard of `ablation()`, where exact Z-IL without noise is changed."""

    def changed(result: TrialResult) -> TrialResult:
        config = result.trial.configuration
        exact = (config.rule, config.gamma, config.sigma) == ("Z-IL", 1.0, 0.0)
        return change(result) if exact else result

    made = shard_result(shard.trials, paper_drift)
    return replace(made, trials=[changed(result) for result in made.trials])


def collected(store: Store, *names: str) -> Collected:
    """Collects stored sweeps."""
    return collect(store, stored_plans(store, names, EXPERIMENTS))


def rewrite(store: Store, key: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Replaces the sealed object by what `change` makes of it. It is sealed again, so its sha256 is
    right."""
    store.put(key, seal(change(unseal(store.get(key) or b""))))


def name_columns(store: Store, keys: SweepKeys, data: bytes) -> str:
    """Makes the head of a stored plan name a file with these bytes, and returns the file's key. All
    sha256s are right."""
    file = ColumnFile.of(data)
    key = file.key(keys)
    store.put(key, data)
    rewrite(store, keys.plan, lambda body: body | {"columns": asdict(file)})
    return key


def flipped(data: bytes, place: int) -> bytes:
    """`data` with one bit of the byte at `place` flipped."""
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def flipped_digits(data: bytes) -> Iterator[bytes]:
    """Yields copies of `data`, in each of which one of its digits is replaced by another one."""
    return (flipped(data, place) for place, byte in enumerate(data) if byte in b"0123456789")


def failure(shard: Shard, **changes: Any) -> FailureRow:
    """The record of a failed attempt of the sweep "a"."""
    made = FailureRow(
        sweep="a",
        shard_id=shard.shard_id,
        attempt_id="x",
        kind="error",
        quarantined=True,
        error="ValueError: no",
        traceback="Traceback ...\nValueError: no",
        driver="here",
        time="2020-01-01T00:00:00+00:00",
        trial_ids=tuple(trial.trial_id for trial in shard.trials),
    )
    return replace(made, **changes)


def record_failure(store: Store, plan: Plan, shard: Shard, **changes: Any) -> str:
    """Stores a record of a failed attempt and returns its key."""
    record = failure(shard, **{"sweep": plan.name, **changes})
    key = SweepKeys(plan.name).failure(shard.shard_id, record.attempt_id)
    store.put(key, seal(as_json(record)))
    return key


class Counting(LocalStore):
    """A store that notes each key that is read."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.read: list[str] = []

    def get(self, key: str) -> bytes | None:
        self.read.append(key)
        return super().get(key)
