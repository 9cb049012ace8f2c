"""Trials that several sweeps hold. Where one copy of a trial is enough, the first one is kept, and
every other one is compared with it before it is left out."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from cluster.sweeps.plan import Plan
from pcworker.store.commit import Commit
from pcworker.store.result import CIRCUMSTANCES


@dataclass(frozen=True)
class Duplicate:
    """A trial that two sweeps have committed."""

    trial_id: str
    kept: Commit
    """The commit whose rows are kept."""
    left_out: Commit
    differing: tuple[str, ...]
    """The names of the tables in which the results of the two differ."""


Results = Mapping[str, Sequence[str]]
"""What a trial's rows in each table say, whatever computed them, by the table's name."""


class Duplicates:
    """Finds and compares the trials that several plans hold."""

    def __init__(self, plans: Iterable[Plan]) -> None:
        held = Counter(trial.trial_id for plan in plans for trial in plan.trials)
        self._shared = {trial_id for trial_id, plans in held.items() if plans > 1}
        self._kept: dict[str, tuple[Commit, Results]] = {}
        self.found: list[Duplicate] = []

    def add(self, commit: Commit, tables: Mapping[str, pa.Table]) -> None:
        """Adds a shard. Its trials are kept, or compared with those that are kept already.

        tables  the tables in which one copy of a trial is enough
        """
        ids = self._shared.intersection(commit.trial_ids)
        said = {name: _said(rows, ids) for name, rows in tables.items()} if ids else {}
        for trial_id in sorted(ids):
            results = {name: rows[trial_id] for name, rows in said.items()}
            kept, before = self._kept.setdefault(trial_id, (commit, results))
            if kept is not commit:
                differing = tuple(name for name in said if results[name] != before[name])
                self.found.append(Duplicate(trial_id, kept, commit, differing))


def _said(rows: pa.Table, trial_ids: set[str]) -> Mapping[str, Sequence[str]]:
    """The results in a table's rows, by trial, as texts that are equal if all bits are equal."""
    names = [name for name in rows.column_names if name not in CIRCUMSTANCES]
    if "sha256" in names:  # It stands for the weights' values, which are large.
        names.remove("value")
    mine = rows.filter(
        pc.is_in(rows["trial_id"], value_set=pa.array(sorted(trial_ids), pa.string()))
    )
    said = defaultdict(list)
    for row in mine.select(names).to_pylist():
        said[row["trial_id"]].append(repr(row))
    return defaultdict(list, {trial_id: sorted(texts) for trial_id, texts in said.items()})
