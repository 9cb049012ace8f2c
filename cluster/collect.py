"""The collector: from what is committed to the tables that answer the paper's question.

It may run at any time, also while the sweep runs: half-written and lost attempts are invisible.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from cluster.audit import Audit, audit, read_repeated
from cluster.divergence import Outcome, divergence_row, outcome
from cluster.experiment import ABLATION, Experiment
from cluster.plan import Plan, read_plan
from cluster.reading import Committed, read_committed, read_failures
from cluster.sweep import Cell
from pcworker.commit import Commit
from pcworker.config import Trial, configuration_from
from pcworker.detection_records import detection_columns
from pcworker.digests import combine
from pcworker.errors import InputError
from pcworker.layout import SweepKeys
from pcworker.provenance import code_metadata, command_line, provenance
from pcworker.records import (
    DIVERGENCE,
    FAILURES,
    table,
    to_parquet,
    trial_columns,
    with_metadata,
)
from pcworker.store import Store
from pcworker.timing_records import timing_columns

ANY_SWEEP = ""
_COLUMNS: dict[str, Callable[[Trial[Any]], dict[str, object]]] = {
    "ablation": trial_columns,
    "timing": timing_columns,
    "detection": detection_columns,
}
"""By experiment: the columns that say what a trial was to be."""


@dataclass(frozen=True)
class Collected:
    """The tables of one sweep, or of several together."""

    keys: SweepKeys
    """Where its tables and its report go."""
    experiment: Experiment
    tables: dict[str, pa.Table]
    missing: tuple[Trial[Any], ...]
    """Trials without a result."""
    damaged: tuple[str, ...]
    """What is wrong with which object, one line each."""
    audit: Audit
    alone: int
    """Trials that were run one by one, because a stack might have changed their bits."""
    not_invariant: int
    """Trials whose results do not even repeat themselves."""

    @property
    def divergence(self) -> list[dict[str, Any]]:
        """The rows of the table `divergence`."""
        rows: list[dict[str, Any]] = self.tables["divergence"].to_pylist()
        return rows

    @property
    def timings(self) -> list[dict[str, Any]]:
        """The rows of the table `timings`."""
        rows: list[dict[str, Any]] = self.tables["timings"].to_pylist()
        return rows

    @property
    def detection(self) -> list[dict[str, Any]]:
        """The rows of the table `detection`."""
        rows: list[dict[str, Any]] = self.tables["detection"].to_pylist()
        return rows


def stored_plans(store: Store, names: Iterable[str]) -> list[Plan]:
    """The plans of the sweeps `names`, each once. InputError if a sweep has no plan, or they are
    of two experiments, which have no table in common."""
    plans = [_plan(store, name) for name in sorted(set(names))]
    if len(kinds := {plan.experiment.name: plan.name for plan in plans}) > 1:
        which = " and ".join(f"{name} (of the experiment {kind})" for kind, name in kinds.items())
        raise InputError(f"sweeps {which} have no tables in common; collect them one by one")
    return plans


def collect(store: Store, plans: Sequence[Plan]) -> Collected:
    """The tables of sweeps of one experiment together; seeds of equal cells are joined.

    What is damaged is left out and named.
    """
    committed = read_committed(store, plans)
    failures, damaged = _failures(store, plans)
    experiment = plans[0].experiment
    missing = tuple(dict.fromkeys(_missing(plans, committed)))
    wanting = tuple(trial for _, trial in missing)
    return Collected(
        keys=SweepKeys.joint([plan.name for plan in plans]),
        experiment=experiment,
        tables=_tables(plans, committed, failures, missing),
        missing=wanting,
        damaged=(*committed.damaged, *damaged),
        audit=audit(committed.commits, read_repeated(store, committed.commits, committed.keys)),
        alone=_packed(committed.commits, "alone"),
        not_invariant=_packed(committed.commits, "irreproducible"),
    )


def write_tables(store: Store, collected: Collected) -> None:
    """Writes the tables as Parquet."""
    for name, rows in collected.tables.items():
        store.put(collected.keys.table(name), to_parquet(rows))


def _plan(store: Store, name: str) -> Plan:
    plan = read_plan(store, name)
    if plan is None:
        raise InputError(f"there is no sweep {name} in the store {store.url}; check both names")
    return plan


def _missing(plans: Iterable[Plan], committed: Committed) -> Iterator[tuple[str, Trial[Any]]]:
    """Trials without a result, each with its sweep, if that matters."""
    for plan in plans:
        same = plan.experiment.same_everywhere
        there = committed.trial_ids if same else committed.by_sweep[plan.name]
        sweep = ANY_SWEEP if same else plan.name
        yield from ((sweep, trial) for trial in plan.trials if trial.trial_id not in there)


def _tables(
    plans: Sequence[Plan],
    committed: Committed,
    failures: list[dict[str, Any]],
    missing: Iterable[tuple[str, Trial[Any]]],
) -> dict[str, pa.Table]:
    metadata = _metadata(committed.commits)
    made = {name: committed.rows(name) for name in committed.schemas}
    rows_of_trials = next(iter(made))  # the first table has a row per trial
    failed = list(_failed_rows(missing, failures))
    fresh = table(committed.schemas[rows_of_trials], failed, {}).replace_schema_metadata(None)
    made[rows_of_trials] = pa.concat_tables([made[rows_of_trials], fresh])
    tables = {name: with_metadata(part, metadata) for name, part in made.items()}
    if plans[0].experiment is ABLATION:
        rows = _divergence(plans, _outcomes(made, committed.commits))
        tables["divergence"] = table(DIVERGENCE, rows, metadata)
    return {**tables, "failures": table(FAILURES, failures, metadata)}


def _divergence(plans: Iterable[Plan], outcomes: Mapping[str, Outcome]) -> list[dict[str, Any]]:
    declared: dict[Cell, dict[str, Outcome | None]] = defaultdict(dict)
    for plan in plans:
        for cell in plan.cells:
            ids = (Trial(cell.configuration, seed).trial_id for seed in plan.seeds)
            declared[cell] |= {trial_id: outcomes.get(trial_id) for trial_id in ids}
    return [divergence_row(cell, trials) for cell, trials in declared.items()]


def _metadata(commits: Iterable[Commit]) -> dict[str, str]:
    """Of the code that collects, and of the code that trained."""
    trained = sorted({str(commit.where.get("code_sha256")) for commit in commits})
    made_by = {**provenance(), "command": command_line()}
    return {
        **code_metadata(made_by),
        "provenance": json.dumps(made_by),
        "trained_code_sha256": ",".join(trained),
    }


def _outcomes(tables: Mapping[str, pa.Table], commits: Iterable[Commit]) -> dict[str, Outcome]:
    """By trial id. A trial is exact if it has the digest of the twin that its own shard trained."""
    twins = {
        (commit.shard_id, commit.attempt_id, twin): digests[-1]
        for commit in commits
        for twin, digests in commit.twins.items()
    }
    shas = defaultdict(list)
    weights = tables["weights"].select(["trial_id", "layer", "parameter", "sha256"]).to_pylist()
    for row in sorted(weights, key=lambda row: (row["layer"], row["parameter"] != "weight")):
        shas[row["trial_id"]].append(row["sha256"])
    epochs = defaultdict(list)
    for row in sorted(tables["epochs"].to_pylist(), key=lambda row: row["epoch"]):
        epochs[row["trial_id"]].append(row)
    outcomes = {}
    for row in tables["trials"].to_pylist():
        if row["status"] == "failed":
            continue
        trial_id = row["trial_id"]
        twin = twins.get((row["shard_id"], row["attempt_id"], _twin_id(row)))
        outcomes[trial_id] = outcome(epochs[trial_id], combine(shas[trial_id]) == twin)
    return outcomes


def _twin_id(row: Mapping[str, Any]) -> str:
    return Trial(configuration_from(row), row["seed"]).twin.trial_id


def _failures(store: Store, plans: Iterable[Plan]) -> tuple[list[dict[str, Any]], list[str]]:
    read = [read_failures(store, plan) for plan in plans]
    return [row for rows, _ in read for row in rows], [line for _, lines in read for line in lines]


def _failed_rows(
    missing: Iterable[tuple[str, Trial[Any]]], failures: Iterable[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    """A row for each trial whose shard is quarantined."""
    quarantined = {
        (sweep, trial_id): row
        for row in failures
        if row["quarantined"]
        for trial_id in row["trial_ids"]
        for sweep in (row["sweep"], ANY_SWEEP)
    }
    for sweep, trial in missing:
        if failure := quarantined.get((sweep, trial.trial_id)):
            yield {
                **_COLUMNS[trial.configuration.experiment](trial),
                "sweep": failure["sweep"],
                "status": "failed",
                "shard_id": failure["shard_id"],
            }


def _packed(commits: Iterable[Commit], packing: str) -> int:
    return sum(len(commit.trial_ids) for commit in commits if commit.packing == packing)
