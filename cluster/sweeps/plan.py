"""The plan of a sweep: its trials, packed into shards. A pure function of the trial set.

The first submission's plan is stored and is *the* plan. A later submission of the same trials
adopts it, whatever the code would pack today; other trials under that name are refused.
"""

import re
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Generic

from cluster.experiment import Experiment, Experiments
from cluster.sweeps.sweep import Cell, Sweep, trial_set_fingerprint
from pcworker.errors import DamagedError, InputError
from pcworker.fingerprint import fingerprint
from pcworker.store.keys import SCHEMA_VERSION, SweepKeys
from pcworker.store.sealed import seal, unseal
from pcworker.store.store import Store
from pcworker.trials.trial import ENGINE_VERSION, C, Trial, configuration_from

_SHARD_ID = re.compile(r"[0-9]{4,}-[0-9a-f]{8}")


@dataclass(frozen=True)
class Shard(Generic[C]):
    """The trials that one worker runs as one unit of work, of retry and of commit."""

    shard_id: str
    trials: tuple[Trial[C], ...]


@dataclass(frozen=True)
class Plan(Generic[C]):
    """A sweep, named and packed."""

    experiment: Experiment
    name: str
    cells: tuple[Cell[C], ...]
    seeds: tuple[int, ...]
    shards: tuple[Shard[C], ...]
    """The most expensive first."""

    @property
    def trials(self) -> tuple[Trial[C], ...]:
        return tuple(trial for shard in self.shards for trial in shard.trials)

    @cached_property
    def keys(self) -> SweepKeys:
        """Where all that belongs to it is kept."""
        return SweepKeys(self.name)


def make_plan(experiment: Experiment, sweep: Sweep[C], name: str) -> Plan[C]:
    """Packs the trials of `sweep`. Depends on the set of trials, not on their order."""
    trials = sorted(sweep.trials, key=_id)
    packs = sorted(
        experiment.pack(trials), key=lambda pack: (-experiment.seconds(pack), pack[0].trial_id)
    )
    shards = (Shard(_shard_id(place, pack), tuple(pack)) for place, pack in enumerate(packs))
    return Plan(experiment, name, sweep.cells, sweep.seeds, tuple(shards))


def adopt_plan(store: Store, plan: Plan[C]) -> Plan[C]:
    """`plan` in the shards of the stored plan of its name; `plan` itself if there is none yet.

    Raises InputError if the name is taken by another trial set, DamagedError if the stored plan
    cannot be read.
    """
    stored = read_plan(store, plan.name, {plan.experiment.name: plan.experiment})
    if stored is None:
        return plan
    if trial_set_fingerprint(stored.trials) != trial_set_fingerprint(plan.trials):
        raise InputError(
            f"sweep {plan.name} already holds another plan ({len(stored.trials)} trials, not these "
            f"{len(plan.trials)}); choose another --sweep, or leave it out to get a name of its own"
        )
    # the same trials may be declared as other cells: what is reported is what was asked for now
    return replace(plan, shards=stored.shards)


def store_plan(store: Store, plan: Plan[C], provenance: dict[str, Any]) -> Plan[C]:
    """Makes `plan` the plan of its name, unless there is one by now; then as `adopt_plan`."""
    body = plan_json(plan) | {"provenance": provenance}
    stored = store.put_if_absent(plan.keys.plan, seal(body))
    return plan if stored else adopt_plan(store, plan)


def read_plan(store: Store, name: str, experiments: Experiments) -> Plan[Any] | None:
    """The stored plan of that name; DamagedError where it cannot be read, InputError where it is
    of an experiment that is not among `experiments`."""
    key = SweepKeys(name).plan
    data = store.get(key)
    if data is None:
        return None
    try:
        body = unseal(data)
        kind = body.setdefault(
            "experiment", "ablation"
        )  # a plan of the days when there was this one
        if (experiment := experiments.get(kind)) is None:
            raise _Unknown(kind)
        return _from_json(body, name, experiment)
    except _Unknown as unknown:
        raise InputError(
            f"sweep {name} already holds another plan, of the experiment {unknown}, and this "
            f"command knows {', '.join(experiments)}; choose another --sweep"
        ) from unknown
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, InputError) as error:
        raise DamagedError(
            f"{store.describe(key)} is damaged or from another version "
            f"({type(error).__name__}: {error}); choose another --sweep, or restore the file"
        ) from error


def first_command(store: Store, sweep: str) -> str | None:
    """The command line with which a sweep was submitted first, if its plan says so."""
    provenance = unseal(store.get(SweepKeys(sweep).plan) or b"")["provenance"]
    if "command" in provenance:
        return shlex.join(provenance["command"])
    if "argv" in provenance:  # of the days when there was this one job
        return shlex.join(["python", "-m", "jobs.mnist_ablation", *provenance["argv"]])
    return None


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


class _Unknown(Exception):
    """An experiment that a command does not know."""


def _from_json(body: dict[str, Any], name: str, experiment: Experiment) -> Plan[Any]:
    if (body["schema_version"], body["engine_version"]) != (SCHEMA_VERSION, ENGINE_VERSION):
        raise ValueError(
            f"schema {body['schema_version']} and engine {body['engine_version']}, "
            f"not {SCHEMA_VERSION} and {ENGINE_VERSION}"
        )
    trials = {
        row["trial_id"]: Trial(configuration_from(experiment.configuration, row), row["seed"])
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
    plan = Plan(experiment, name, tuple(cells), tuple(body["seeds"]), shards)
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
