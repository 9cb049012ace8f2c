"""Reads what one of two compared sweeps says of each trial. Nothing is written into the store."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import pyarrow.types as kinds

from cluster.results.collect import declared_trials, on_this_disk
from cluster.results.committed import Portion, read_committed
from cluster.results.duplicates import digests_of_results
from cluster.results.needed import everything
from cluster.sweeps.plan import Plan
from pcworker.errors import InputError
from pcworker.row import columns, values
from pcworker.store.parquet import schema_of
from pcworker.store.result import CIRCUMSTANCES, Tables
from pcworker.store.store import Store
from pcworker.text import in_a_line

IDENTITY = frozenset(("trial_id", "seed", "engine_version", "epoch"))
"""The columns that name a trial or a row. Two sweeps of different engines give a trial different
ids."""

Numbers = Mapping[str, float | None]
"""The values of a trial by measure. None stands for a value that is null, such as one after an
epoch whose weights are not finite."""


CellKey = tuple[tuple[str, Any], ...]
"""The fields of a cell's configuration that are compared, with their values."""


@dataclass(frozen=True)
class TrialOutcome:
    """The results of one trial."""

    trial_id: str
    """Its id in its own sweep. A trial has another one in a sweep of another engine."""
    digests: Mapping[str, bytes]
    """A digest of the results in each table, by the table's name. They are equal if all bits are
    equal."""
    numbers: Numbers
    """The numbers that are results, by "table.column"."""
    measured: Numbers
    """The measured times and sizes of memory, by "table.column". They are equal only by chance."""


@dataclass(frozen=True)
class Side:
    """One of the two sweeps."""

    name: str
    place: str
    """The address of the store that holds it."""
    engine_version: int
    machines: tuple[str, ...]
    """The hosts and devices that computed its results."""
    code: tuple[str, ...]
    """The sha256 of each version of the sources that computed its results."""
    missing: int
    """The number of its trials that have no result."""
    damaged: tuple[str, ...]
    """A line for each object that could not be read."""
    cells: Mapping[CellKey, Mapping[int, TrialOutcome]]
    """The results by cell and seed."""


@on_this_disk()
def read_side(store: Store, plan: Plan[Any], ignored: Collection[str] = ()) -> Side:
    """Reads the results that a sweep has now.

    ignored  fields of the configuration that may differ

    Raises InputError if there is no such field, or if two cells differ in these fields alone.
    """
    _require_fields(plan, ignored)
    tables = plan.experiment.tables
    committed = read_committed(store, [plan], everything(tables))
    cells: dict[CellKey, dict[int, TrialOutcome]] = defaultdict(dict)
    for portion in committed.portions():
        outcomes = _outcomes(portion, tables, ignored)
        for trial in portion.trials:
            given = values(trial.configuration).items()
            mine = cells[tuple((name, value) for name, value in given if name not in ignored)]
            if trial.seed in mine:
                raise InputError(
                    f"sweep {plan.name} has cells that differ in {', '.join(ignored)} alone, so it "
                    "cannot be ignored"
                )
            mine[trial.seed] = outcomes[trial.trial_id]
    entries = committed.entries.to_pylist()
    return Side(
        name=plan.name,
        place=store.url,
        engine_version=plan.engine_version,
        machines=_distinct(f"{each['hostname']}, {each['device']}" for each in entries),
        code=_distinct(each["code_sha256"] for each in entries),
        missing=declared_trials([plan]) - sum(map(len, cells.values())),
        damaged=tuple(line for each in committed.gathered for line in each.damaged),
        cells=dict(cells),
    )


def _distinct(texts: Any) -> tuple[str, ...]:
    return tuple(sorted({in_a_line(text) for text in texts}))


def _configured(plan: Plan[Any]) -> list[str]:
    """The fields of a configuration."""
    configuration: type = plan.experiment.configuration
    return [column.name for column in columns(configuration)]


def _require_fields(plan: Plan[Any], names: Collection[str]) -> None:
    known = _configured(plan)
    if unknown := [name for name in names if name not in known]:
        raise InputError(
            f"{', '.join(unknown)} cannot be ignored: no field of a configuration has this name; "
            f"the fields are {', '.join(known)}"
        )


def _outcomes(
    portion: Portion, tables: Tables, ignored: Collection[str]
) -> Mapping[str, TrialOutcome]:
    """The results of all trials of a portion, by their ids."""
    ids = {trial.trial_id for trial in portion.trials}
    beside = {*IDENTITY - {"epoch"}, *tables.measured, *ignored}
    digests = {name: digests_of_results(portion, name, ids, beside) for name in tables.row_types}
    numbers: dict[str, dict[str, float | None]] = {trial_id: {} for trial_id in ids}
    for name in tables.row_types:
        for trial_id, mine in _numbers(portion, name).items():
            numbers[trial_id] |= mine
    measured = {f"{name}.{column}" for name in tables.row_types for column in tables.measured}
    return {
        trial_id: TrialOutcome(
            trial_id=trial_id,
            digests={name: each[trial_id] for name, each in digests.items()},
            numbers={k: v for k, v in numbers[trial_id].items() if k not in measured},
            measured={k: v for k, v in numbers[trial_id].items() if k in measured},
        )
        for trial_id in ids
    }


def _numbers(portion: Portion, name: str) -> Mapping[str, dict[str, float | None]]:
    """The numbers of a table by trial and by "table.column"."""
    wanted = _numeric(portion, name)
    if not wanted:
        return {}
    ends = ["epoch"] if "epoch" in portion.columns(name) else []
    rows: Mapping[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in portion.rows(name, ["trial_id", *ends, *wanted]).to_pylist():
        rows[row["trial_id"]].append(row)
    return {
        trial_id: {f"{name}.{column}": _one(mine, column) for column in wanted}
        for trial_id, mine in rows.items()
    }


def _one(rows: Sequence[Mapping[str, Any]], column: str) -> float | None:
    """One number for a trial: that of its last epoch, or else the mean over its rows."""
    if "epoch" in rows[0]:
        rows = [max(rows, key=lambda row: row["epoch"])]
    found: list[float] = [row[column] for row in rows if row[column] is not None]
    if len(found) < len(rows):
        return None
    return found[0] if len(found) == 1 else mean(found)


def _numeric(portion: Portion, name: str) -> list[str]:
    """The columns of a table that hold a number which is a result or was measured. Small whole
    numbers are left out, because they are the places of a row, and so are parameters, which are
    compared by their sha256."""
    schema = schema_of(portion.committed.tables[name])
    if "sha256" in schema.names:
        return []
    without = CIRCUMSTANCES | IDENTITY | set(_configured(portion.committed.plans[0]))
    return [
        field.name
        for field in schema
        if field.name not in without
        and (kinds.is_float64(field.type) or kinds.is_int64(field.type))
    ]
