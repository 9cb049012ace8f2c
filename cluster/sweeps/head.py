"""The head of a plan: a small JSON object, the `plan.json`. It says everything but the shards."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cluster.experiment import Experiment
from cluster.sweeps.columns import ColumnFile, read_shards
from cluster.sweeps.plan import Plan
from cluster.sweeps.sweep import Cell
from pcworker.plain import from_json
from pcworker.store.keys import SCHEMA_VERSION, SweepKeys
from pcworker.store.store import Store
from pcworker.trials.older import as_read, as_written
from pcworker.trials.trial import Trial


@dataclass(frozen=True)
class _StoredCell:
    """A cell as the head has it."""

    panel: str
    gamma: float | None
    configuration: int
    """The place of its configuration among those of the head."""


@dataclass(frozen=True)
class _Head:
    """The parts of the head from which the plan is made again."""

    engine_version: int
    trial_count: int
    seeds: tuple[int, ...]
    configurations: tuple[Mapping[str, Any], ...]
    """The distinct configurations, in the order of the cells."""
    cells: tuple[_StoredCell, ...]
    columns: ColumnFile
    """The file with the shards."""
    provenance: Mapping[str, Any]


def head_json(plan: Plan[Any], columns: ColumnFile) -> dict[str, Any]:
    """The head of the plan, without the provenance, as values that JSON can hold.

    columns  the file with the shards of the plan
    """
    version = plan.engine_version
    places = {c: n for n, c in enumerate(dict.fromkeys(cell.configuration for cell in plan.cells))}
    return {
        "schema_version": SCHEMA_VERSION,
        "engine_version": version,
        "experiment": plan.experiment.name,
        "sweep": plan.name,
        "trial_set": plan.trial_set,
        "trial_count": len(plan.trials),
        "shard_count": len(plan.shards),
        "columns": asdict(columns),
        "seeds": list(plan.seeds),
        "configurations": [as_written(asdict(each), version) for each in places],
        "cells": [
            {
                "panel": cell.panel,
                "gamma": cell.gamma,
                "configuration": places[cell.configuration],
            }
            for cell in plan.cells
        ],
    }


def plan_of_head(
    store: Store, body: Mapping[str, Any], name: str, experiment: Experiment
) -> Plan[Any]:
    """The plan that a head and its file make together.

    Raises DamagedError if the file is damaged. It may raise ValueError, IndexError or InputError if
    the head is.
    """
    head = from_json(_Head, body)
    configurations = [
        from_json(experiment.configuration, as_read(each, head.engine_version))
        for each in head.configurations
    ]

    def trials() -> Iterator[Trial[Any]]:
        for configuration in configurations:
            for seed in head.seeds:
                yield Trial(configuration, seed, head.engine_version)

    distinct = len(set(configurations)) * len(set(head.seeds))
    if not distinct == len(configurations) * len(head.seeds) == head.trial_count > 0:
        raise ValueError("its trials are not those of its configurations and seeds")
    shards = read_shards(store, SweepKeys(name), head.columns, trials(), head.trial_count)
    cells = (
        Cell(cell.panel, configurations[cell.configuration], cell.gamma) for cell in head.cells
    )
    plan = Plan(experiment, name, tuple(cells), head.seeds, shards)
    if head_json(plan, head.columns) | {"provenance": body["provenance"]} != body:
        raise ValueError("its parts contradict each other")
    return plan
