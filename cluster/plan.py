"""The plan of a sweep: its trials, packed into shards. A pure function of the trial set.

The first submission's plan is stored and is *the* plan. A later submission of the same trials
adopts it, whatever the code would pack today; other trials under that name are refused.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Generic

from cluster.experiment import EXPERIMENTS, Experiment
from cluster.sweep import Cell, Sweep, trial_set_fingerprint
from pcworker.config import ENGINE_VERSION, C, Trial
from pcworker.errors import DamagedError, InputError
from pcworker.fingerprint import fingerprint
from pcworker.layout import SweepKeys
from pcworker.records import SCHEMA_VERSION
from pcworker.sealed import seal, unseal
from pcworker.store import Store

_SHARD_ID = re.compile(r"[0-9]{4,}-[0-9a-f]{8}")


@dataclass(frozen=True)
class Shard(Generic[C]):
    """The trials that one worker runs as one unit of work, of retry and of commit."""

    shard_id: str
    trials: tuple[Trial[C], ...]


@dataclass(frozen=True)
class Plan(Generic[C]):
    """A sweep, named and packed."""

    name: str
    cells: tuple[Cell[C], ...]
    seeds: tuple[int, ...]
    shards: tuple[Shard[C], ...]
    """The most expensive first."""

    @property
    def trials(self) -> tuple[Trial[C], ...]:
        return tuple(trial for shard in self.shards for trial in shard.trials)

    @property
    def experiment(self) -> Experiment:
        return EXPERIMENTS[self.shards[0].trials[0].configuration.experiment]


def make_plan(sweep: Sweep[C], name: str) -> Plan[C]:
    """Packs the trials of `sweep`. Depends on the set of trials, not on their order."""
    trials = sorted(sweep.trials, key=_id)
    experiment = EXPERIMENTS[trials[0].configuration.experiment]
    packs = sorted(
        experiment.pack(trials), key=lambda pack: (-experiment.seconds(pack), pack[0].trial_id)
    )
    shards = (Shard(_shard_id(place, pack), tuple(pack)) for place, pack in enumerate(packs))
    return Plan(name, sweep.cells, sweep.seeds, tuple(shards))


def adopt_plan(store: Store, plan: Plan[C]) -> Plan[C]:
    """`plan` in the shards of the stored plan of its name; `plan` itself if there is none yet.

    Raises InputError if the name is taken by another trial set, DamagedError if the stored plan
    cannot be read.
    """
    stored = read_plan(store, plan.name)
    if stored is None:
        return plan
    if trial_set_fingerprint(stored.trials) != trial_set_fingerprint(plan.trials):
        raise InputError(
            f"sweep {plan.name} already holds another plan ({len(stored.trials)} trials, not these "
            f"{len(plan.trials)}); choose another --sweep, or leave it out to get a name of its own"
        )
    # the same trials may be declared as other cells: what is reported is what was asked for now
    return Plan(plan.name, plan.cells, plan.seeds, stored.shards)


def store_plan(store: Store, plan: Plan[C], provenance: dict[str, Any]) -> Plan[C]:
    """Makes `plan` the plan of its name, unless there is one by now; then as `adopt_plan`."""
    body = plan_json(plan) | {"provenance": provenance}
    stored = store.put_if_absent(SweepKeys(plan.name).plan, seal(body))
    return plan if stored else adopt_plan(store, plan)


def read_plan(store: Store, name: str) -> Plan[Any] | None:
    """The stored plan of that name; DamagedError where it cannot be read."""
    key = SweepKeys(name).plan
    data = store.get(key)
    if data is None:
        return None
    try:
        return _from_json(unseal(data), name)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, InputError) as error:
        raise DamagedError(
            f"{store.describe(key)} is damaged or from another version "
            f"({type(error).__name__}: {error}); choose another --sweep, or restore the file"
        ) from error


def plan_json(plan: Plan[Any]) -> dict[str, Any]:
    """The plan as JSON values."""
    trials = plan.trials
    return {
        "schema_version": SCHEMA_VERSION,
        "engine_version": ENGINE_VERSION,
        "experiment": plan.experiment.name,
        "sweep": plan.name,
        "trial_set": trial_set_fingerprint(trials),
        "seeds": list(plan.seeds),
        "cells": [
            {
                "panel": cell.panel,
                "gamma": cell.gamma,
                "trial_ids": [Trial(cell.configuration, seed).trial_id for seed in plan.seeds],
            }
            for cell in plan.cells
        ],
        "shards": [
            {"shard_id": shard.shard_id, "trial_ids": [t.trial_id for t in shard.trials]}
            for shard in plan.shards
        ],
        "trials": [
            {"trial_id": t.trial_id, "seed": t.seed, **asdict(t.configuration)} for t in trials
        ],
    }


def _from_json(body: dict[str, Any], name: str) -> Plan[Any]:
    if (body["schema_version"], body["engine_version"]) != (SCHEMA_VERSION, ENGINE_VERSION):
        raise ValueError(
            f"schema {body['schema_version']} and engine {body['engine_version']}, "
            f"not {SCHEMA_VERSION} and {ENGINE_VERSION}"
        )
    body.setdefault("experiment", "ablation")  # a plan of the days when there was this one
    experiment = EXPERIMENTS[body["experiment"]]
    trials = {
        row["trial_id"]: Trial(experiment.configuration_from(row), row["seed"])
        for row in body["trials"]
    }
    if any(not _SHARD_ID.fullmatch(shard["shard_id"]) for shard in body["shards"]):
        raise ValueError("a shard's id is not a number and 8 hex digits")
    shards = tuple(
        Shard(shard["shard_id"], tuple(trials[trial_id] for trial_id in shard["trial_ids"]))
        for shard in body["shards"]
    )
    cells = (
        Cell(cell["panel"], trials[cell["trial_ids"][0]].configuration, cell["gamma"])
        for cell in body["cells"]
    )
    plan = Plan(name, tuple(cells), tuple(body["seeds"]), shards)
    body.pop("provenance")
    if plan_json(plan) != body:
        raise ValueError("its parts contradict each other")
    if sorted(Sweep(plan.cells, plan.seeds).trials, key=_id) != sorted(plan.trials, key=_id):
        raise ValueError("its shards are not the trials of its cells, each once")
    return plan


def _id(trial: Trial[Any]) -> str:
    return trial.trial_id


def _shard_id(place: int, pack: Sequence[Trial[Any]]) -> str:
    return f"{place:04d}-{fingerprint([trial.trial_id for trial in pack])[:8]}"
