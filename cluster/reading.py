"""Reading what is committed: exactly the files that commits name, each checked."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cluster.plan import Plan, Shard
from pcworker.commit import Commit, read_commit, read_file
from pcworker.errors import DamagedError
from pcworker.layout import SweepKeys
from pcworker.records import FAILURES, SHARD_TABLES, table
from pcworker.sealed import unseal
from pcworker.store import Store


@dataclass
class Committed:
    """The commits and the rows of one or more sweeps; a trial that several hold counts once."""

    commits: list[Commit] = field(default_factory=list)
    tables: dict[str, list[pa.Table]] = field(
        default_factory=lambda: {name: [] for name in SHARD_TABLES}
    )
    trial_ids: set[str] = field(default_factory=set)
    damaged: list[str] = field(default_factory=list)
    """What is wrong with which object, one line each."""

    def rows(self, name: str) -> pa.Table:
        """All rows of a table, without metadata."""
        bare = SHARD_TABLES[name].remove_metadata()
        parts = [part.replace_schema_metadata(None) for part in self.tables[name]]
        return pa.concat_tables([bare.empty_table(), *parts])


def read_committed(store: Store, plans: Iterable[Plan]) -> Committed:
    """Everything that the plans' shards have committed."""
    committed = Committed()
    for plan in plans:
        for shard in plan.shards:
            try:
                _read_shard(store, plan, shard, committed)
            except DamagedError as error:
                committed.damaged.append(str(error))
    return committed


def committed_shards(store: Store, plan: Plan) -> dict[str, Commit]:
    """The commits of a plan by shard id; DamagedError if one cannot be read."""
    keys = SweepKeys(plan.name)
    commits = ((shard.shard_id, read_commit(store, keys, shard.shard_id)) for shard in plan.shards)
    return {shard_id: commit for shard_id, commit in commits if commit is not None}


def read_failures(store: Store, plan: Plan) -> tuple[list[dict[str, Any]], list[str]]:
    """The records of failed attempts, and what is wrong with those that are damaged."""
    rows, damaged = [], []
    for key in store.list(SweepKeys(plan.name).failures):
        try:
            row = unseal(store.get(key) or b"")
            if set(row) != set(FAILURES.names) or not isinstance(row["trial_ids"], list):
                raise ValueError("not a record of a failure")
            table(FAILURES, [row], {})  # raises unless its values fit
            rows.append(row)
        except (ValueError, pa.ArrowException) as error:
            damaged.append(f"{store.describe(key)} is damaged ({error}); delete it")
    return rows, damaged


def _read_shard(store: Store, plan: Plan, shard: Shard, committed: Committed) -> None:
    keys = SweepKeys(plan.name)
    commit = read_commit(store, keys, shard.shard_id)
    if commit is None:
        return
    epochs = shard.trials[0].configuration.epochs
    twins = {trial.twin.trial_id: epochs for trial in shard.trials}
    trial_ids = [trial.trial_id for trial in shard.trials]
    digests = {twin: len(each) for twin, each in commit.twins.items()}
    if sorted(map(str, commit.trial_ids)) != sorted(trial_ids) or digests != twins:
        where = store.describe(keys.commit(shard.shard_id))
        raise DamagedError(f"{where} holds other trials than the plan's shard; delete it")
    parts = {
        file.table: read_file(store, file, keys.commit(shard.shard_id)) for file in commit.files
    }
    committed.commits.append(commit)
    fresh = [trial_id for trial_id in commit.trial_ids if trial_id not in committed.trial_ids]
    for name, part in parts.items():
        mine = pc.is_in(part["trial_id"], value_set=pa.array(fresh, pa.string()))
        committed.tables[name].append(part.filter(mine))
    committed.trial_ids.update(fresh)
