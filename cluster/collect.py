"""The collector: from what is committed to the tables that answer the paper's question.

It may run at any time, also while the sweep runs: half-written and lost attempts are invisible.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from cluster.audit import Audit, audit, read_repeated
from cluster.divergence import Outcome, divergence_row, outcome
from cluster.plan import Plan, read_plan
from cluster.reading import Committed, read_committed, read_failures
from cluster.sweep import Cell
from pcworker.commit import Commit
from pcworker.config import ENGINE_VERSION, Trial, configuration_from
from pcworker.digests import combine
from pcworker.errors import InputError
from pcworker.layout import SweepKeys
from pcworker.provenance import code_metadata, command_line, provenance
from pcworker.records import (
    DIVERGENCE,
    FAILURES,
    SHARD_TABLES,
    TRIALS,
    configuration_columns,
    table,
    to_parquet,
    with_metadata,
)
from pcworker.store import Store


@dataclass(frozen=True)
class Collected:
    """The tables of one sweep, or of several together."""

    keys: SweepKeys
    """Where its tables and its report go."""
    tables: dict[str, pa.Table]
    missing: tuple[Trial, ...]
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


def stored_plans(store: Store, names: Iterable[str]) -> list[Plan]:
    """The plans of the sweeps `names`, each once. InputError if a sweep has no plan."""
    return [_plan(store, name) for name in sorted(set(names))]


def collect(store: Store, plans: Sequence[Plan]) -> Collected:
    """The tables of sweeps together; seeds of equal cells are joined.

    What is damaged is left out and named.
    """
    committed = read_committed(store, plans)
    failures, damaged = _failures(store, plans)
    trials = dict.fromkeys(trial for plan in plans for trial in plan.trials)
    missing = tuple(trial for trial in trials if trial.trial_id not in committed.trial_ids)
    return Collected(
        keys=SweepKeys.joint([plan.name for plan in plans]),
        tables=_tables(plans, committed, failures, missing),
        missing=missing,
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


def _tables(
    plans: Sequence[Plan],
    committed: Committed,
    failures: list[dict[str, Any]],
    missing: Iterable[Trial],
) -> dict[str, pa.Table]:
    metadata = _metadata(committed.commits)
    made = {name: committed.rows(name) for name in SHARD_TABLES}
    quarantined = {id: row for row in failures if row["quarantined"] for id in row["trial_ids"]}
    failed = [
        _failed_row(trial, quarantined[trial.trial_id])
        for trial in missing
        if trial.trial_id in quarantined
    ]
    made["trials"] = pa.concat_tables(
        [made["trials"], table(TRIALS, failed, {}).replace_schema_metadata(None)]
    )
    outcomes = _outcomes(made, committed.commits)
    declared: dict[Cell, dict[str, Outcome | None]] = defaultdict(dict)
    for plan in plans:
        for cell in plan.cells:
            ids = (Trial(cell.configuration, seed).trial_id for seed in plan.seeds)
            declared[cell] |= {trial_id: outcomes.get(trial_id) for trial_id in ids}
    rows = [divergence_row(cell, trials) for cell, trials in declared.items()]
    described = {name: with_metadata(part, metadata) for name, part in made.items()}
    return described | {
        "divergence": table(DIVERGENCE, rows, metadata),
        "failures": table(FAILURES, failures, metadata),
    }


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


def _failed_row(trial: Trial, failure: Mapping[str, Any]) -> dict[str, Any]:
    """A row of `trials` for a trial whose shard is quarantined."""
    return {
        "trial_id": trial.trial_id,
        "sweep": failure["sweep"],
        "seed": trial.seed,
        **configuration_columns(trial.configuration),
        "status": "failed",
        "shard_id": failure["shard_id"],
        "engine_version": ENGINE_VERSION,
    }


def _packed(commits: Iterable[Commit], packing: str) -> int:
    return sum(len(commit.trial_ids) for commit in commits if commit.packing == packing)
