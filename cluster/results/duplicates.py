"""Trials that several sweeps hold. Where one copy of a trial is enough, the first one is kept, and
every other one is compared with it before it is left out."""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from cluster.results.committed import Committed, Portion
from cluster.sweeps.plan import Plan
from pcworker.store.result import CIRCUMSTANCES


@dataclass(frozen=True)
class Duplicate:
    """A trial that two sweeps have committed with different results."""

    trial_id: str
    kept: int
    """The place of the commit whose rows are kept."""
    left_out: int
    differing: tuple[str, ...]
    """The names of the tables in which the results of the two differ. It is never empty."""


Results = Mapping[str, bytes]
"""Digests of what a trial's rows in each table say, whatever computed them, by the table's name."""


def leave_out_duplicates(committed: Committed) -> tuple[int, list[Duplicate]]:
    """Leaves out each copy of a trial that is not the first one. Returns how many they are, and
    those of them whose results differ from the first one's."""
    shared = _shared(committed.plans)
    kept: dict[str, tuple[int, Results]] = {}
    out: dict[int, list[str]] = defaultdict(list)
    found = []
    for portion in committed.portions() if shared else ():
        places = {
            trial_id: portion.first + k
            for k, trial_ids in enumerate(portion.entries["trial_ids"].to_pylist())
            for trial_id in trial_ids
        }
        ids = shared.intersection(places)
        said = {name: digests_of_results(portion, name, ids) for name in committed.once if ids}
        for trial_id in sorted(ids, key=lambda each: (places[each], each)):
            results = {name: rows[trial_id] for name, rows in said.items()}
            first, before = kept.setdefault(trial_id, (places[trial_id], results))
            if first != places[trial_id]:
                out[int(committed.plan_of[places[trial_id]])].append(trial_id)
                if differing := tuple(name for name in said if results[name] != before[name]):
                    found.append(Duplicate(trial_id, first, places[trial_id], differing))
    committed.left_out = {plan: pa.array(ids, pa.string()) for plan, ids in out.items()}
    return sum(map(len, out.values())), found


def _shared(plans: Sequence[Plan]) -> set[str]:
    """The ids of the trials that several plans hold."""
    seen: set[str] = set()
    shared: set[str] = set()
    for plan in plans if len(plans) > 1 else ():
        ids = {trial.trial_id for trial in plan.trials}
        shared |= seen & ids
        seen |= ids
    return shared


def digests_of_results(
    portion: Portion, name: str, trial_ids: set[str], beside: Collection[str] = ()
) -> Mapping[str, bytes]:
    """Digests of the results in a table's rows, by trial. They are equal if all bits are equal.

    beside  columns that are left out, as the circumstances are
    """
    names = [each for each in portion.columns(name) if each not in CIRCUMSTANCES]
    if "sha256" in names:  # It stands for the weights' values, which are large.
        names.remove("value")
    left_out = set(beside).intersection(names)
    rows = portion.rows(name, names)
    mine = rows.filter(pc.is_in(rows["trial_id"], value_set=pa.array(sorted(trial_ids))))
    said: Mapping[str, list[str]] = defaultdict(list)
    for trial_id, row in zip(
        mine["trial_id"].to_pylist(), mine.drop_columns(sorted(left_out)).to_pylist(), strict=True
    ):
        said[trial_id].append(repr(row))
    digests = {each: "\n".join(sorted(texts)) for each, texts in said.items()}
    return {each: hashlib.sha256(digests.get(each, "").encode()).digest() for each in trial_ids}
