"""Makes the commits of large sweeps in little time: what they would be after training, made up.

A shard is one seed's trials of BP and of IL with nine t, whose weights are all the same, so that
every cell is exact. The files are written by the project's own writers, but nothing is synced.
"""

import hashlib
import multiprocessing
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
from builders import shard_result, tiny, where

from cluster.sweeps.plan import Plan, Shard
from cluster.sweeps.sweep import Cell
from jobs.mnist_ablation.experiment import ABLATION
from pcworker.fingerprint import fingerprint
from pcworker.plain import as_json
from pcworker.store.commit import Commit, CommittedFile, FinishedAttempt
from pcworker.store.keys import SCHEMA_VERSION
from pcworker.store.local import LocalStore
from pcworker.store.parquet import file_metadata, table, to_parquet
from pcworker.store.result import Origin
from pcworker.store.sealed import seal
from pcworker.store.store import Store
from pcworker.store.tables import SHARD_TABLES
from pcworker.trials.digests import combine, parameter_sha256
from pcworker.trials.trial import Trial

NAME = "many"
ATTEMPT = "first"
CONFIGURATIONS = [tiny("BP"), *(tiny("IL", t=t, gamma=1.0) for t in range(1, 10))]
TRIALS = len(CONFIGURATIONS)
"""The number of trials of a shard."""


class Unsynced(LocalStore):
    """A directory whose files are not safe from a loss of power."""

    def put(self, key: str, data: bytes) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def put_if_absent(self, key: str, data: bytes) -> bool:
        if (self.root / key).exists():
            return False
        self.put(key, data)
        return True


def plan_of_many(shards: int) -> Plan:
    """A plan of so many shards, each of one seed."""
    seeds = range(1, shards + 1)
    cells = tuple(Cell("rule" if c.rule == "BP" else "t-gamma", c, c.gamma) for c in CONFIGURATIONS)
    return Plan(ABLATION, NAME, cells, tuple(seeds), tuple(_shard(k) for k in seeds))


def commit_many(store: Store, plan: Plan, shards: Iterable[Shard]) -> None:
    """Commits these shards of the plan."""
    for shard in shards:
        for key, data in _objects(plan, shard):
            store.put(key, data)


def _shard(seed: int) -> Shard:
    trials = tuple(Trial(configuration, seed) for configuration in CONFIGURATIONS)
    return Shard(f"{seed - 1:04d}-{fingerprint(seed)[:8]}", trials)


def _objects(plan: Plan, shard: Shard) -> Iterator[tuple[str, bytes]]:
    """Yields the key and the bytes of each object of a shard, its commit last."""
    made_by, files = where(plan.name), []
    tables, shas = _tables(shard)
    for name, rows in tables.items():
        key, data = plan.keys.data(shard.shard_id, ATTEMPT, name), to_parquet(rows)
        files.append(CommittedFile(name, key, len(data), hashlib.sha256(data).hexdigest()))
        yield key, data
    ids = tuple(trial.trial_id for trial in shard.trials)
    twins = {ids[0]: (combine(shas),)}
    digest = fingerprint([*ids, *shas])
    ended = FinishedAttempt(shard.shard_id, ATTEMPT, digest, made_by.hostname, made_by.device)
    yield plan.keys.attempt(shard.shard_id, ATTEMPT), seal(as_json(ended))
    commit = Commit(
        shard_id=shard.shard_id, attempt_id=ATTEMPT, time="2026-01-01T00:00:00+00:00",
        trial_ids=ids, files=tuple(files), result_digest=digest, twins=twins, packing="stacked",
        updates=1000, wall_seconds=1.5, where=made_by,
    )  # fmt: skip
    yield (
        plan.keys.commit(shard.shard_id),
        seal({"schema_version": SCHEMA_VERSION, **as_json(commit)}),
    )


def _tables(shard: Shard) -> tuple[dict[str, pa.Table], list[str]]:
    """The tables of a shard, and the sha256 of each layer of every trial."""
    seed, ids = shard.trials[0].seed, [trial.trial_id for trial in shard.trials]
    random = np.random.default_rng(seed)
    layers = [random.standard_normal((n, m)).astype("f4") for n, m in pairwise((2, 2, 3))]
    shas = [parameter_sha256(layer) for layer in layers]
    values = [layer.astype("f8").ravel() for layer in layers]
    columns = {
        "trials": {"trial_id": ids, "seed": [seed] * TRIALS, "shard_id": [shard.shard_id] * TRIALS},
        "epochs": {"trial_id": ids, "seed": [seed] * TRIALS},
        "weights": {
            "trial_id": [each for each in ids for _ in layers],
            "sha256": shas * TRIALS,
            "value": values * TRIALS,
        },
    }
    return {name: _with(_template()[name], new) for name, new in columns.items()}, shas


def _with(rows: pa.Table, columns: dict[str, list]) -> pa.Table:
    for name, values in columns.items():
        field = rows.schema.field(name)
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, field, pa.array(values, field.type))
    return rows


@cache
def _template() -> dict[str, pa.Table]:
    """The tables of one shard, from which those of every other differ in a few columns."""
    made_by = where(NAME)
    origin = Origin(
        sweep=NAME, shard_id="", attempt_id=ATTEMPT, hostname=made_by.hostname,
        device=made_by.device, torch_version="0.0",
    )  # fmt: skip
    rows = SHARD_TABLES.rows(shard_result(_shard(1).trials), origin)
    metadata = file_metadata(made_by)
    return {
        name: table(kind, rows[name], metadata) for name, kind in SHARD_TABLES.row_types.items()
    }


def made_in_two_processes(folder: Path, shards: int, committed: int) -> None:
    """Commits the first shards of a plan in a directory."""
    plan = plan_of_many(shards)
    context = multiprocessing.get_context("fork")
    started = [
        context.Process(target=commit_many, args=(Unsynced(folder), plan, half))
        for half in (plan.shards[: committed // 2], plan.shards[committed // 2 : committed])
    ]
    for process in started:
        process.start()
    for process in started:
        process.join()
        assert process.exitcode == 0
