"""The collector: it makes an experiment's tables from the committed results.

It may run at any time, even while the sweep runs: attempts that are half-written or lost are
invisible to it.
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cluster.experiment import Derived, Experiment, Experiments
from cluster.results.audit import Audit, Published, audit, read_repeated
from cluster.results.committed import Committed, read_committed
from cluster.results.duplicates import leave_out_duplicates
from cluster.results.reading import Unread, list_failures, read_failures
from cluster.results.tables import CollectedTables
from cluster.sweeps.plan import Plan
from cluster.sweeps.stored import read_plan, unknown_sweep
from pcworker.errors import InputError
from pcworker.machine.provenance import command_line, provenance
from pcworker.store.keys import SweepKeys
from pcworker.store.parquet import file_metadata, table
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
    tables: CollectedTables
    """The tables by name. Nothing but the order in which their names are printed depends on their
    order."""
    missing: tuple[Trial[Any], ...]
    """The trials without a result."""
    failed: int
    """How many of the missing trials are missing because their shard has failed."""
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


@contextmanager
def on_this_disk() -> Iterator[None]:
    """Raises InputError in place of the errors of the files that a collector keeps."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"the folder for temporary files {tempfile.gettempdir()}: "
            f"{error.strerror or error}; set TMPDIR to one that has room for all that is collected"
        ) from error


@on_this_disk()
def collect(store: Store, plans: Sequence[Plan]) -> Collected:
    """Collects sweeps of one experiment into common tables. Equal cells of several sweeps are
    joined: the tables hold the seeds of all of them.

    Damaged objects are left out, and `Collected.damaged` names them.
    """
    committed = read_committed(store, plans)
    duplicates = leave_out_duplicates(committed)
    made = make_tables(store, committed, plans[0].experiment.derived)
    compare = plans[0].experiment.published
    return Collected(
        plans=tuple(plans),
        tables=made.tables,
        missing=made.missing,
        failed=made.failed,
        damaged=made.damaged,
        unread=tuple(shard for each in committed.gathered for shard in each.unread),
        listed=frozenset((*committed.listed, *made.failures)),
        audit=audit(
            committed,
            read_repeated(store, list(committed.beside)),
            duplicates,
            compare(committed.portions()) if compare else Published(),
        ),
        alone=_packed(committed, "alone"),
        not_invariant=_packed(committed, "irreproducible"),
    )


@dataclass(frozen=True)
class Made:
    """Tables that were made from commits, and what is not in them."""

    tables: CollectedTables
    missing: tuple[Trial[Any], ...]
    """The trials without a result."""
    failed: int
    """How many of the missing trials are missing because their shard has failed."""
    damaged: tuple[str, ...]
    """A line for each damaged object: its place, and what is wrong with it."""
    failures: tuple[str, ...]
    """The keys of all records of failures."""


def make_tables(store: Store, committed: Committed, derived: Mapping[str, Derived]) -> Made:
    """Makes the tables from what was committed: those that the shards have written, as far as they
    were read, `failures`, and the derived ones."""
    plans = committed.plans
    recorded = [key for plan in plans for key in list_failures(store, plan)]
    failures, damaged = read_failures(store, recorded)
    missing = list(_missing(committed))
    experiment = plans[0].experiment
    per_trial = experiment.tables.row_types[experiment.tables.per_trial]
    failed = table(per_trial, _failed_rows(experiment, missing, failures), {})
    computed = {
        **{name: _derived(each, committed) for name, each in derived.items()},
        "failures": table(FailureRow, failures, {}),
    }
    metadata = {
        **_metadata(committed),
        "trials": str(declared_trials(plans)),
        "trial_sets": trial_sets(plans),
        "missing": str(len(missing)),
        "commits": str(len(committed)),
    }
    return Made(
        tables=CollectedTables(committed, failed, computed, metadata),
        missing=tuple(trial for _, trial in missing),
        failed=len(failed),
        damaged=(*(line for each in committed.gathered for line in each.damaged), *damaged),
        failures=tuple(recorded),
    )


@on_this_disk()
def write_tables(store: Store, collected: Collected) -> None:
    """Writes the tables into the store, as Parquet."""
    collected.tables.write(store, collected.keys)


def _plan(store: Store, name: str, experiments: Experiments) -> Plan:
    plan = read_plan(store, name, experiments)
    if plan is None:
        raise unknown_sweep(store, name)
    return plan


def declared_trials(plans: Sequence[Plan]) -> int:
    """The number of trials of the plans. One that several plans hold counts once if it has the same
    result in every sweep."""
    if len(plans) > 1 and plans[0].experiment.same_everywhere:
        return len({trial.trial_id for plan in plans for trial in plan.trials})
    return sum(len(shard.trials) for plan in plans for shard in plan.shards)


def trial_sets(plans: Sequence[Plan]) -> str:
    """The fingerprints of the plans' sets of trials. Another sweep may get a name that was free
    again, and then tables of several sweeps are left that were made with the one before it."""
    return ",".join(plan.trial_set for plan in plans)


def _missing(committed: Committed) -> Iterator[tuple[str, Trial[Any]]]:
    """Yields each trial without a result, once, and its sweep; the sweep is ANY_SWEEP if the trial
    has the same result in every sweep."""
    same = committed.plans[0].experiment.same_everywhere
    left = {
        (ANY_SWEEP if same else plan.name, trial): None
        for place, plan in enumerate(committed.plans)
        for shard in committed.without_commit(place)
        for trial in plan.shards[shard].trials
    }
    others = [] if len(committed.plans) == 1 or not same or not left else committed.portions()
    there = {
        trial_id
        for each in others
        for ids in each.entries["trial_ids"].to_pylist()
        for trial_id in ids
    }
    return ((sweep, trial) for sweep, trial in left if trial.trial_id not in there)


def _derived(derived: Derived, committed: Committed) -> pa.Table:
    return table(derived.row_type, derived.rows(committed.plans, committed.portions()), {})


def _metadata(committed: Committed) -> dict[str, str]:
    """Parquet metadata that names the code that collected and the code that trained."""
    trained = sorted(committed.entries["code_sha256"].unique().to_pylist())
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


def _packed(committed: Committed, packing: str) -> int:
    mine = committed.entries.filter(pc.equal(committed.entries["packing"], packing))
    return len(pc.list_flatten(mine["trial_ids"]))
