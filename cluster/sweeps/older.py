"""Plans as older versions have stored them: one JSON object with every shard and every trial."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cluster.experiment import Experiment
from cluster.sweeps.plan import Plan, Shard
from cluster.sweeps.sweep import Cell
from pcworker.plain import from_json
from pcworker.store.keys import SCHEMA_VERSION, is_part
from pcworker.trials.older import as_read, as_written
from pcworker.trials.trial import Trial


@dataclass(frozen=True)
class _StoredShard:
    """A shard as a stored plan has it."""

    shard_id: str
    trial_ids: tuple[str, ...]


@dataclass(frozen=True)
class _StoredCell:
    """A cell as a stored plan has it."""

    panel: str
    gamma: float | None
    trial_ids: tuple[str, ...]


@dataclass(frozen=True)
class _StoredTrial:
    """The parts of a trial in a stored plan that are not its configuration's."""

    trial_id: str
    seed: int


@dataclass(frozen=True)
class _StoredPlan:
    """The parts of a stored plan that do not depend on its experiment."""

    seeds: tuple[int, ...]
    cells: tuple[_StoredCell, ...]
    shards: tuple[_StoredShard, ...]
    provenance: Mapping[str, Any]


def is_whole(body: Mapping[str, Any]) -> bool:
    """True if a stored plan was stored by an older version, with all its shards in it."""
    return "columns" not in body


def whole_plan(body: Mapping[str, Any], name: str, experiment: Experiment) -> Plan[Any]:
    """The plan that an older version has stored. It may raise ValueError, KeyError, TypeError,
    IndexError or InputError if the plan is damaged."""
    stored, version = from_json(_StoredPlan, body), body["engine_version"]
    trials = {}
    for row in body["trials"]:
        found = from_json(_StoredTrial, row)
        configuration = from_json(experiment.configuration, as_read(row, version))
        trials[found.trial_id] = Trial(configuration, found.seed, version)
    if not all(is_part("shard", shard.shard_id) for shard in stored.shards):
        raise ValueError("a shard's id is not a number and 8 hex digits")
    shards = tuple(
        Shard(shard.shard_id, tuple(trials[trial_id] for trial_id in shard.trial_ids))
        for shard in stored.shards
    )
    cells = (
        Cell(cell.panel, trials[cell.trial_ids[0]].configuration, cell.gamma)
        for cell in stored.cells
    )
    plan = Plan(experiment, name, tuple(cells), stored.seeds, shards)
    if whole_json(plan) | {"provenance": body["provenance"]} != body:
        raise ValueError("its parts contradict each other")
    if not all(shard.trials for shard in shards) or len({s.shard_id for s in shards}) < len(shards):
        raise ValueError("a shard is empty, or two have the same id")
    declared = {trial_id for cell in plan.cells for trial_id in plan.trial_ids(cell)}
    if not shards or sorted(declared) != sorted(trial.trial_id for trial in plan.trials):
        raise ValueError("its shards are not the trials of its cells, each once")
    return plan


def whole_json(plan: Plan[Any]) -> dict[str, Any]:
    """What an older version would have stored of the plan, without the provenance. A stored plan
    whose parts are true is equal to this."""
    return {
        "schema_version": SCHEMA_VERSION,
        "engine_version": plan.engine_version,
        "experiment": plan.experiment.name,
        "sweep": plan.name,
        "trial_set": plan.trial_set,
        "seeds": list(plan.seeds),
        "cells": [
            {"panel": cell.panel, "gamma": cell.gamma, "trial_ids": plan.trial_ids(cell)}
            for cell in plan.cells
        ],
        "shards": [
            {"shard_id": shard.shard_id, "trial_ids": [t.trial_id for t in shard.trials]}
            for shard in plan.shards
        ],
        "trials": [
            {
                "trial_id": t.trial_id,
                "seed": t.seed,
                **as_written(asdict(t.configuration), t.engine_version),
            }
            for t in plan.trials
        ],
    }
