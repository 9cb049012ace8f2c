"""Copies a sweep's own objects, and checks a copy: the plan, the commits, the files that they name,
and the records of failures. Checkpoints and attempts that lost are no part of it."""

from collections.abc import Iterable, Iterator
from functools import partial

from cluster.archive.layout import STORE, sha256
from cluster.experiment import Experiments
from cluster.results.reading import (
    list_failures,
    read_all,
    read_failures,
    read_shard,
    read_shard_commit,
    with_commit,
)
from cluster.sweeps.plan import Plan, Shard
from cluster.sweeps.stored import read_plan
from pcworker.errors import DamagedError, InputError
from pcworker.store.keys import SweepKeys
from pcworker.store.store import Store


def copy_objects(store: Store, plan: Plan, copy: Store) -> None:
    """Copies the objects of a sweep as they are now. Each file is compared with its commit.

    Raises DamagedError if an object is damaged.
    """
    keys = [key for key in store.list(plan.keys.folder) if _is_plans(plan.keys, key)]
    for key in (*keys, *list_failures(store, plan)):
        _copy(store, key, copy)
    there = with_commit(plan, store.list(plan.keys.shards))
    for done in read_all(partial(_copy_shard, store, plan, copy), there):
        if isinstance(done, DamagedError):
            raise done


def checked_plan(store: Store, name: str, experiments: Experiments) -> Plan:
    """The plan of a sweep whose store holds it and nothing else, after every object was read.

    Raises InputError if an object is damaged, missing, or not part of the sweep.
    """
    plan = read_plan(store, name, experiments)
    if plan is None:
        raise InputError(f"the sweep {name} has no plan")
    left = set(store.list(SweepKeys(name).folder))
    left -= {key for key in left if _is_plans(plan.keys, key)}
    recorded = list_failures(store, plan)
    _, damaged = read_failures(store, recorded)
    if damaged:
        raise DamagedError(damaged[0])
    left -= set(recorded)
    for found in read_all(partial(_keys_of_shard, store, plan), plan.shards):
        if isinstance(found, DamagedError):
            raise found
        left -= set(found)
    if left:
        raise InputError(f"{min(left)!r} is no part of the sweep: no commit names it")
    return plan


def _is_plans(keys: SweepKeys, key: str) -> bool:
    parsed = keys.parse(key)
    return parsed is not None and parsed.kind in ("plan", "columns")


def _copy_shard(store: Store, plan: Plan, copy: Store, shard: Shard) -> None:
    commit = read_shard_commit(store, plan, shard)
    if commit is None:
        return  # Somebody has deleted it meanwhile.
    for file in commit.files:
        data = store.get(file.key)
        if data is None or sha256(data) != file.sha256:
            raise DamagedError(
                f"{store.describe(file.key)} is {'missing' if data is None else 'damaged'}; "
                f"delete {store.describe(plan.keys.commit(shard.shard_id))} and submit the sweep "
                "again to run its shard anew"
            )
        copy.put(file.key, data)
    _copy(store, plan.keys.commit(shard.shard_id), copy)


def _copy(store: Store, key: str, copy: Store) -> None:
    data = store.get(key)
    if data is None:
        raise DamagedError(f"{store.describe(key)} was deleted while it was copied; try again")
    copy.put(key, data)


def _keys_of_shard(store: Store, plan: Plan, shard: Shard) -> Iterable[str]:
    """The keys of a shard's commit and of its files, after they were read and checked."""
    read = read_shard(store, plan, shard)
    if read is None:
        return ()
    return plan.keys.commit(shard.shard_id), *(file.key for file in read[0].files)


def keys_in(names: Iterable[str]) -> Iterator[str]:
    """The keys of the objects among the files of an archive."""
    return (name.removeprefix(STORE) for name in names if name.startswith(STORE))
