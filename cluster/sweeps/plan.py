"""The plan of a sweep: its trials, packed into shards. A plan is a pure function of the trial set.

The plan of the first submission is stored, and it remains the plan of that sweep. A later
submission of the same trials adopts it, even if today's code would pack the trials in another way.
A submission of other trials under the same name is refused.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Generic

from cluster.experiment import Experiment, Experiments
from cluster.sweeps.sweep import Cell, Sweep, trial_set_fingerprint
from pcworker.errors import DamagedError, InputError
from pcworker.fingerprint import fingerprint
from pcworker.plain import from_json
from pcworker.store.keys import SCHEMA_VERSION, SweepKeys, is_part
from pcworker.store.sealed import seal, unseal
from pcworker.store.store import Store
from pcworker.trials.older import as_read, as_written
from pcworker.trials.trial import C, Trial


@dataclass(frozen=True)
class Shard(Generic[C]):
    """The trials that one worker runs together: the unit of work, of retry and of commit."""

    shard_id: str
    trials: tuple[Trial[C], ...]


@dataclass(frozen=True)
class Plan(Generic[C]):
    """A sweep with a name, packed into shards."""

    experiment: Experiment
    name: str
    cells: tuple[Cell[C], ...]
    seeds: tuple[int, ...]
    shards: tuple[Shard[C], ...]
    """The shards, with the most expensive one first."""

    @property
    def trials(self) -> tuple[Trial[C], ...]:
        """All trials, in the order of their shards."""
        return tuple(trial for shard in self.shards for trial in shard.trials)

    @property
    def engine_version(self) -> int:
        """The version of the engine that trains its trials, or has trained them."""
        return self.shards[0].trials[0].engine_version

    @property
    def is_older(self) -> bool:
        """True if an older engine has trained its trials, so that it cannot be continued."""
        todays: int = self.experiment.configuration.engine_version
        return self.engine_version < todays

    @property
    def sums(self) -> str:
        """The sums of its trials."""
        return self.shards[0].trials[0].configuration.sums

    @property
    def same_on_every_device(self) -> bool:
        """True if its trials have the same results on a CPU and on a GPU, also where several shards
        are trained at the same time."""
        return self.sums == "fixed" and self.experiment.same_everywhere

    def trial_ids(self, cell: Cell[C]) -> list[str]:
        """The ids of a cell's trials, one for each seed."""
        configuration, version = cell.configuration, self.engine_version
        return [Trial(configuration, seed, version).trial_id for seed in self.seeds]

    @cached_property
    def keys(self) -> SweepKeys:
        """The keys under which everything of this sweep is stored."""
        return SweepKeys(self.name)


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
class _Submitted:
    """The command line in a stored plan's provenance, in the newer form or the older one."""

    command: tuple[str, ...] | None = None
    argv: tuple[str, ...] | None = None


@dataclass(frozen=True)
class _StoredPlan:
    """The parts of a stored plan that do not depend on its experiment."""

    seeds: tuple[int, ...]
    cells: tuple[_StoredCell, ...]
    shards: tuple[_StoredShard, ...]
    provenance: Mapping[str, Any]


def make_plan(experiment: Experiment, sweep: Sweep[C], name: str) -> Plan[C]:
    """Packs the trials of `sweep` into shards. The result depends on the set of trials, not on
    their order."""
    trials = sorted(sweep.trials, key=_id)
    packs = sorted(
        experiment.pack(trials), key=lambda pack: (-experiment.seconds(pack), pack[0].trial_id)
    )
    shards = (Shard(_shard_id(place, pack), tuple(pack)) for place, pack in enumerate(packs))
    return Plan(experiment, name, sweep.cells, sweep.seeds, tuple(shards))


def adopt_plan(store: Store, plan: Plan[C]) -> Plan[C]:
    """Returns `plan` with the shards of the plan that is stored under its name, or `plan` itself
    if none is stored yet.

    Raises InputError if the name is taken by another trial set or by an older engine's, and
    DamagedError if the stored plan cannot be read.
    """
    try:
        stored = read_plan(store, plan.name, {plan.experiment.name: plan.experiment})
    except _OtherExperiment as error:
        raise InputError(
            f"sweep {plan.name} already holds another plan, of another experiment than "
            f"{plan.experiment.name}; choose another --sweep, or leave it out to get a name of its "
            "own"
        ) from error
    if stored is None:
        return plan
    if stored.is_older:
        raise InputError(
            f"sweep {plan.name} is of engine {stored.engine_version}, and this is engine "
            f"{plan.engine_version}, whose numbers differ: it can be collected, queried and "
            "deleted, but not continued; choose another --sweep, or leave it out"
        )
    if trial_set_fingerprint(stored.trials) != trial_set_fingerprint(plan.trials):
        raise InputError(
            f"sweep {plan.name} already holds another plan ({len(stored.trials)} trials, not these "
            f"{len(plan.trials)}); choose another --sweep, or leave it out to get a name of its own"
        )
    # The same trials may be declared as other cells. The report shows the cells of this submission.
    return replace(plan, shards=stored.shards)


def store_plan(store: Store, plan: Plan[C], provenance: dict[str, Any]) -> Plan[C]:
    """Stores `plan` if no plan has its name yet, and returns the plan that counts.

    If a plan has been stored in the meantime, this does the same as `adopt_plan`, and raises the
    same errors.
    """
    body = plan_json(plan) | {"provenance": provenance}
    stored = store.put_if_absent(plan.keys.plan, seal(body))
    return plan if stored else adopt_plan(store, plan)


def read_plan(store: Store, name: str, experiments: Experiments) -> Plan[Any] | None:
    """Reads the plan that is stored under `name`; None if there is none.

    Raises DamagedError if the plan cannot be read, InputError if it belongs to an experiment that
    is not among `experiments`.
    """
    key = SweepKeys(name).plan
    data = store.get(key)
    if data is None:
        return None
    try:
        body = unseal(data)
        # The oldest plans name no experiment: the ablation was the only one then.
        kind = body.setdefault("experiment", "ablation")
        if (experiment := experiments.get(kind)) is None:
            raise _OtherExperiment(
                f"sweep {name} holds a plan of the experiment {kind}, and this command knows "
                f"{', '.join(experiments)}; give another --sweep, or use a version that knows it"
            )
        return _from_json(body, name, experiment)
    except _OtherExperiment:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, InputError) as error:
        raise DamagedError(
            f"{store.describe(key)} is damaged or from another version "
            f"({type(error).__name__}: {error}); choose another --sweep, or restore the file"
        ) from error


def first_command(store: Store, sweep: str) -> str | None:
    """The command line that submitted the sweep first; None if the plan does not say it."""
    try:
        said = unseal(store.get(SweepKeys(sweep).plan) or b"").get("provenance")
        submitted = from_json(_Submitted, said)
    except ValueError:
        return None
    if submitted.command is not None:
        return shlex.join(submitted.command)
    if submitted.argv is not None:  # the oldest plans: this was the only job then
        return shlex.join(["python", "-m", "jobs.mnist_ablation", *submitted.argv])
    return None


def plan_json(plan: Plan[Any]) -> dict[str, Any]:
    """The plan as values that JSON can hold."""
    trials = plan.trials
    return {
        "schema_version": SCHEMA_VERSION,
        "engine_version": plan.engine_version,
        "experiment": plan.experiment.name,
        "sweep": plan.name,
        "trial_set": trial_set_fingerprint(trials),
        "seeds": list(plan.seeds),
        "cells": [
            {
                "panel": cell.panel,
                "gamma": cell.gamma,
                "trial_ids": plan.trial_ids(cell),
            }
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
            for t in trials
        ],
    }


class _OtherExperiment(InputError):
    """Raised for a plan whose experiment the command does not know."""


def _from_json(body: dict[str, Any], name: str, experiment: Experiment) -> Plan[Any]:
    known, version = experiment.configuration.engine_version, body["engine_version"]
    engine_is_known = type(version) is int and 1 <= version <= known
    if body["schema_version"] != SCHEMA_VERSION or not engine_is_known:
        raise ValueError(
            f"schema {body['schema_version']} and engine {version}, "
            f"not {SCHEMA_VERSION} and at most {known}"
        )
    stored = from_json(_StoredPlan, body)
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
    body.pop("provenance")
    if plan_json(plan) != body:
        raise ValueError("its parts contradict each other")
    if not all(shard.trials for shard in shards) or len({s.shard_id for s in shards}) < len(shards):
        raise ValueError("a shard is empty, or two have the same id")
    declared = {trial_id for cell in plan.cells for trial_id in plan.trial_ids(cell)}
    if not shards or sorted(declared) != sorted(map(_id, plan.trials)):
        raise ValueError("its shards are not the trials of its cells, each once")
    return plan


def _id(trial: Trial[Any]) -> str:
    return trial.trial_id


def _shard_id(place: int, pack: Sequence[Trial[Any]]) -> str:
    return f"{place:04d}-{fingerprint([trial.trial_id for trial in pack])[:8]}"
