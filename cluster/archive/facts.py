"""What an archive says of its sweep, for people and for machines."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cluster.experiment import Experiment
from cluster.query.meanings import column_meanings
from cluster.query.views import row_types
from cluster.results.collect import declared_trials
from cluster.results.reading import read_commits
from cluster.sweeps.plan import Plan
from cluster.sweeps.stored import first_command
from pcworker.machine.provenance import WorkerProvenance
from pcworker.store.parquet import schema_of
from pcworker.store.store import Store
from pcworker.text import in_a_line


@dataclass(frozen=True)
class ArchivedSweep:
    """The facts of a sweep that stand in its archive."""

    name: str
    experiment: str
    engine_version: int
    sums: str
    trials: int
    done: int
    """The number of trials that have a result."""
    shards: int
    done_shards: int
    seeds: tuple[int, ...]
    command: str | None
    """The command line that submitted it first."""
    code: tuple[str, ...]
    """The sha256 of the sources that trained it, and the commits of their repository."""
    versions: tuple[str, ...]
    """The versions of Python and the libraries."""
    machines: tuple[str, ...]
    """The hosts and devices."""
    first: str
    """The time of the first commit: UTC, ISO 8601. It is "" if there is none."""
    last: str
    licence: str
    """The SPDX identifier of the licence of the data."""
    exported: str
    """The day of the export: UTC, ISO 8601."""
    large: frozenset[str]
    """The tables that are folders of several files."""
    columns: Mapping[str, Sequence[tuple[str, str]]]
    """Columns with their types, and what they mean, by table."""


def archived_sweep(
    store: Store, plan: Plan, licence: str, exported: str, large: Iterable[str]
) -> ArchivedSweep:
    """Gathers the facts of a sweep from its plan and its commits."""
    commits = list(read_commits(store, plan).values())
    times = sorted(commit.time for commit in commits)
    where = [commit.where for commit in commits]
    return ArchivedSweep(
        name=plan.name,
        experiment=plan.experiment.name,
        engine_version=plan.engine_version,
        sums=plan.sums,
        trials=declared_trials([plan]),
        done=sum(len(commit.trial_ids) for commit in commits),
        shards=len(plan.shards),
        done_shards=len(commits),
        seeds=plan.seeds,
        command=first_command(store, plan.name),
        code=_distinct(map(_code, where)),
        versions=_distinct(f"{k} {v}" for each in where for k, v in each.versions.items()),
        machines=_distinct(f"{each.hostname}, {each.device}" for each in where),
        first=times[0] if times else "",
        last=times[-1] if times else "",
        licence=licence,
        exported=exported,
        large=frozenset(large),
        columns=_columns(plan.experiment),
    )


def _code(where: WorkerProvenance) -> str:
    changes = " with changes" if where.git_dirty else ""
    commit = f", git {where.git_commit}{changes}" if where.git_commit else ""
    return f"sha256 {where.code_sha256}{commit}"


def _columns(experiment: Experiment) -> Mapping[str, Sequence[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    types = row_types(experiment)
    for row in column_meanings([experiment]).to_pylist():
        table, columns = row["table"], row["columns"]
        # A query has one column more, which is not in the file: the sweep of a row.
        if columns.partition(" ")[0] in schema_of(types[table]).names:
            found.setdefault(table, []).append((columns, row["meaning"]))
    return found


def _distinct(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({in_a_line(text) for text in texts}))
