"""The collector: it makes an experiment's tables from the committed results.

It may run at any time, even while the sweep runs: attempts that are half-written or lost are
invisible to it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from cluster.experiment import Experiment, Experiments
from cluster.results.audit import Audit, Published, audit, read_repeated
from cluster.results.reading import (
    Committed,
    Unread,
    list_failures,
    read_committed,
    read_failures,
)
from cluster.sweeps.plan import Plan
from cluster.sweeps.stored import read_plan
from pcworker.errors import InputError
from pcworker.machine.provenance import command_line, provenance
from pcworker.store.commit import Commit
from pcworker.store.keys import SweepKeys
from pcworker.store.parquet import file_metadata, table, to_parquet, with_metadata
from pcworker.store.result import Origin
from pcworker.store.store import Store
from pcworker.store.tables import FailureRow
from pcworker.trials.trial import Trial

ANY_SWEEP = ""
"""Stands for the sweep of a trial that has the same result in every sweep."""


@dataclass(frozen=True)
class Collected:
    """The tables of one sweep, or of several sweeps together."""

    plans: tuple[Plan[Any], ...]
    """The plans of the sweeps."""
    tables: dict[str, pa.Table]
    """The tables by name. Nothing but the order in which their names are printed depends on the
    order of this dict."""
    missing: tuple[Trial[Any], ...]
    """The trials without a result."""
    damaged: tuple[str, ...]
    """A line for each damaged object: its place, and what is wrong with it."""
    unread: tuple[Unread, ...]
    """The shards of which an object is damaged."""
    listed: frozenset[str]
    """The keys of all commits and records of failures that there were when they were read."""
    audit: Audit
    alone: int
    """The number of trials that ran one by one, because a stack might have changed their bits."""
    not_invariant: int
    """The number of trials that gave different bits when the same machine ran them again."""

    @property
    def keys(self) -> SweepKeys:
        """The keys under which the tables and the report are stored."""
        return SweepKeys(*(plan.name for plan in self.plans))

    @property
    def experiment(self) -> Experiment:
        """The experiment to which all of the sweeps belong."""
        return self.plans[0].experiment

    def rows(self, table: str) -> list[dict[str, Any]]:
        """The rows of a table, each as a dict from column to value."""
        rows: list[dict[str, Any]] = self.tables[table].to_pylist()
        return rows

    @property
    def failed(self) -> int:
        """How many of the missing trials are missing because their shard has failed."""
        statuses = self.tables[self.experiment.tables.per_trial]["status"].to_pylist()
        return sum(status == "failed" for status in statuses)


def stored_plans(store: Store, names: Iterable[str], experiments: Experiments) -> list[Plan]:
    """Reads the plans of the sweeps `names`, each once, in the order of their names.

    Raises InputError if a name is not one of a sweep (before anything is read), if a sweep has no
    plan, or if the sweeps belong to different experiments or engines, because those have no tables
    or no numbers in common.
    """
    asked = sorted(set(names))
    SweepKeys(*asked)  # It raises for a name that is not plain.
    plans = [_plan(store, name, experiments) for name in asked]
    if len(kinds := {plan.experiment.name: plan.name for plan in plans}) > 1:
        which = " and ".join(f"{name} (of the experiment {kind})" for kind, name in kinds.items())
        raise InputError(f"sweeps {which} have no tables in common; collect them one by one")
    if len(engines := {plan.engine_version: plan.name for plan in plans}) > 1:
        which = " and ".join(f"{name} (of engine {version})" for version, name in engines.items())
        raise InputError(f"sweeps {which} have different numbers; collect them one by one")
    return plans


def collect(store: Store, plans: Sequence[Plan]) -> Collected:
    """Collects sweeps of one experiment into common tables. Equal cells of several sweeps are
    joined: the tables hold the seeds of all of them.

    Damaged objects are left out, and `Collected.damaged` names them.
    """
    committed = read_committed(store, plans)
    recorded = [key for plan in plans for key in list_failures(store, plan)]
    failures, damaged = read_failures(store, recorded)
    declared = tuple(dict.fromkeys(_declared(plans)))
    missing = [each for each in declared if not _is_there(committed, *each)]
    metadata = {
        **_metadata(committed.commits),
        "trials": str(len(declared)),
        "missing": str(len(missing)),
        "commits": str(len(committed.commits)),
    }
    tables = _tables(plans, committed, failures, missing, metadata)
    compare = plans[0].experiment.published
    return Collected(
        plans=tuple(plans),
        tables=tables,
        missing=tuple(trial for _, trial in missing),
        damaged=(*committed.damaged, *damaged),
        unread=tuple(committed.unread),
        listed=frozenset((*committed.listed, *recorded)),
        audit=audit(
            committed.commits,
            read_repeated(store, committed.beside),
            committed.duplicates,
            compare(tables) if compare else Published(),
        ),
        alone=_packed(committed.commits, "alone"),
        not_invariant=_packed(committed.commits, "irreproducible"),
    )


def write_tables(store: Store, collected: Collected) -> None:
    """Writes the tables into the store, as Parquet."""
    for name, rows in collected.tables.items():
        store.put(collected.keys.table(name), to_parquet(rows))


def _plan(store: Store, name: str, experiments: Experiments) -> Plan:
    plan = read_plan(store, name, experiments)
    if plan is None:
        raise InputError(f"there is no sweep {name} in the store {store.url}; check both names")
    return plan


def _declared(plans: Iterable[Plan]) -> Iterator[tuple[str, Trial[Any]]]:
    """Yields each trial of the plans and its sweep; the sweep is ANY_SWEEP if the trial has the
    same result in every sweep."""
    for plan in plans:
        sweep = ANY_SWEEP if plan.experiment.same_everywhere else plan.name
        yield from ((sweep, trial) for trial in plan.trials)


def _is_there(committed: Committed, sweep: str, trial: Trial[Any]) -> bool:
    there = committed.trial_ids if sweep == ANY_SWEEP else committed.by_sweep[sweep]
    return trial.trial_id in there


def _tables(
    plans: Sequence[Plan],
    committed: Committed,
    failures: list[FailureRow],
    missing: Iterable[tuple[str, Trial[Any]]],
    metadata: dict[str, str],
) -> dict[str, pa.Table]:
    experiment = plans[0].experiment
    row_types, per_trial = experiment.tables.row_types, experiment.tables.per_trial
    made = {name: committed.rows(name) for name in row_types}
    failed = table(row_types[per_trial], _failed_rows(experiment, missing, failures), {})
    made[per_trial] = pa.concat_tables([made[per_trial], failed.replace_schema_metadata(None)])
    tables = {name: with_metadata(part, metadata) for name, part in made.items()}
    for name, derived in experiment.derived.items():
        rows = derived.rows(plans, made, committed.commits)
        tables[name] = table(derived.row_type, rows, metadata)
    return {**tables, "failures": table(FailureRow, failures, metadata)}


def _metadata(commits: Iterable[Commit]) -> dict[str, str]:
    """Parquet metadata that names the code that collected and the code that trained."""
    trained = sorted({commit.where.code_sha256 for commit in commits})
    return {
        **file_metadata(provenance(command_line())),
        "trained_code_sha256": ",".join(trained),
    }


def _failed_rows(
    experiment: Experiment,
    missing: Iterable[tuple[str, Trial[Any]]],
    failures: Iterable[FailureRow],
) -> Iterator[Any]:
    """Yields a row for each missing trial whose shard is quarantined."""
    quarantined = {
        (sweep, trial_id): row
        for row in failures
        if row.quarantined
        for trial_id in row.trial_ids
        for sweep in (row.sweep, ANY_SWEEP)
    }
    for sweep, trial in missing:
        if failure := quarantined.get((sweep, trial.trial_id)):
            origin = Origin(sweep=failure.sweep, shard_id=failure.shard_id)
            yield experiment.tables.planned(trial, origin, "failed")


def _packed(commits: Iterable[Commit], packing: str) -> int:
    return sum(len(commit.trial_ids) for commit in commits if commit.packing == packing)
