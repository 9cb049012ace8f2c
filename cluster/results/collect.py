"""The collector: from what is committed to the tables that answer the paper's question.

It may run at any time, also while the sweep runs: half-written and lost attempts are invisible.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from cluster.experiment import Experiment, Experiments
from cluster.results.audit import Audit, audit, read_repeated
from cluster.results.reading import Committed, read_committed, read_failures
from cluster.sweeps.plan import Plan, read_plan
from pcworker.errors import InputError
from pcworker.machine.provenance import code_metadata, command_line, provenance
from pcworker.store.commit import Commit
from pcworker.store.keys import SweepKeys
from pcworker.store.parquet import FAILURES, table, to_parquet, with_metadata
from pcworker.store.store import Store
from pcworker.trials.trial import Trial

ANY_SWEEP = ""


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

    def rows(self, table: str) -> list[dict[str, Any]]:
        """The rows of a table."""
        rows: list[dict[str, Any]] = self.tables[table].to_pylist()
        return rows

    @property
    def failed(self) -> int:
        """How many of the missing trials are so because their shard has failed."""
        statuses = self.tables[self.experiment.tables.per_trial]["status"].to_pylist()
        return sum(status == "failed" for status in statuses)


def stored_plans(store: Store, names: Iterable[str], experiments: Experiments) -> list[Plan]:
    """The plans of the sweeps `names`, each once. InputError if a sweep has no plan, or they are
    of two experiments, which have no table in common."""
    plans = [_plan(store, name, experiments) for name in sorted(set(names))]
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
        audit=audit(committed.commits, read_repeated(store, committed.beside)),
        alone=_packed(committed.commits, "alone"),
        not_invariant=_packed(committed.commits, "irreproducible"),
    )


def write_tables(store: Store, collected: Collected) -> None:
    """Writes the tables as Parquet."""
    for name, rows in collected.tables.items():
        store.put(collected.keys.table(name), to_parquet(rows))


def _plan(store: Store, name: str, experiments: Experiments) -> Plan:
    plan = read_plan(store, name, experiments)
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
    metadata, experiment = _metadata(committed.commits), plans[0].experiment
    made = {name: committed.rows(name) for name in committed.schemas}
    per_trial = experiment.tables.per_trial
    failed = list(_failed_rows(experiment, missing, failures))
    fresh = table(committed.schemas[per_trial], failed, {}).replace_schema_metadata(None)
    made[per_trial] = pa.concat_tables([made[per_trial], fresh])
    tables = {name: with_metadata(part, metadata) for name, part in made.items()}
    for name, derived in experiment.derived.items():
        rows = derived.rows(plans, made, committed.commits)
        tables[name] = table(derived.schema, rows, metadata)
    return {**tables, "failures": table(FAILURES, failures, metadata)}


def _metadata(commits: Iterable[Commit]) -> dict[str, str]:
    """Of the code that collects, and of the code that trained."""
    trained = sorted({str(commit.where.get("code_sha256")) for commit in commits})
    made_by = {**provenance(), "command": command_line()}
    return {
        **code_metadata(made_by),
        "provenance": json.dumps(made_by),
        "trained_code_sha256": ",".join(trained),
    }


def _failures(store: Store, plans: Iterable[Plan]) -> tuple[list[dict[str, Any]], list[str]]:
    read = [read_failures(store, plan) for plan in plans]
    return [row for rows, _ in read for row in rows], [line for _, lines in read for line in lines]


def _failed_rows(
    experiment: Experiment,
    missing: Iterable[tuple[str, Trial[Any]]],
    failures: Iterable[Mapping[str, Any]],
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
                **experiment.columns(trial),
                "sweep": failure["sweep"],
                "status": "failed",
                "shard_id": failure["shard_id"],
            }


def _packed(commits: Iterable[Commit], packing: str) -> int:
    return sum(len(commit.trial_ids) for commit in commits if commit.packing == packing)
