"""Whatever somebody else puts into a shared store, whoever reads it gets a result or one error.

Every kind of record that is read from a store is made up by hypothesis, again and again: signs of
life, failures, commits, attempts, plans, tables and checkpoints. Everything that reads a store then
reads it. The oracle: no exception but the project's own, and no control character is printed.
"""

import hashlib
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unicodedata import category

import numpy as np
import pyarrow as pa
import pytest
from builders import ablation, collected, commit, commit_all, planned, record_failure, rewrite
from builders import shard_result as made_up
from forged import BYTES, changed, sealed_again
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.driver.events import AtWork, Running, WorkerInfo
from cluster.driver.record.heartbeat import Heartbeat
from cluster.report.publish import require_complete
from cluster.status.lookout import Lookout
from cluster.status.view import StatusView
from cluster.sweeps.plan import Plan
from cluster.sweeps.stored import first_command, read_plan
from jobs.experiments import EXPERIMENTS
from jobs.mnist_ablation.report import print_report
from jobs.options import Terminal
from pcworker.errors import ZilsweepError
from pcworker.store.keys import SweepKeys
from pcworker.store.local import LocalStore
from pcworker.store.parquet import from_parquet, table, to_parquet
from pcworker.store.result import Origin
from pcworker.store.sealed import seal, unseal
from pcworker.store.tables import SHARD_TABLES, shard_rows
from pcworker.training.checkpoint import Checkpoint, from_bytes, sealed, to_bytes
from pcworker.training.engine import Engine
from pcworker.trials.configuration import configuration
from pcworker.trials.trial import Trial

pytestmark = pytest.mark.faults

QUICK = settings(
    max_examples=40,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
"""The same examples in every run, some seconds for all kinds of records together."""
THOROUGH = settings(QUICK, max_examples=500, derandomize=False)
KEYS = SweepKeys("a")
RECORDS = ("sign", "failure", "commit", "attempt", "plan")
TABLES = ("trials", "epochs", "weights")


@dataclass(frozen=True)
class Sweep:
    """A sweep that has an object of every kind."""

    store: LocalStore
    plan: Plan
    records: dict[str, str]
    """The key of one object of every kind."""


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    store = LocalStore(tmp_path_factory.mktemp("store"))
    plan = planned(store, ablation(networks=["784-2-10"], t=[None], sigma=[0.0], epochs=2), "a")
    rewrite(store, KEYS.plan, lambda body: body | {"provenance": {"command": ["python", "-m"]}})
    commit_all(store, plan)
    shard = plan.shards[0]
    commit(store, plan, shard, attempt="second", result=made_up(shard.trials))
    heartbeat = Heartbeat(store, "a")
    at_work = Running({shard.shard_id: AtWork(0.5, "h")}, (WorkerInfo("h", 1, "n", "cpu"),))
    heartbeat.tell(at_work)
    heartbeat.beat()
    [sign] = store.list(KEYS.drivers)
    records = {
        "sign": sign,
        "failure": record_failure(store, plan, shard),
        "commit": KEYS.commit(shard.shard_id),
        "attempt": KEYS.attempt(shard.shard_id, "second"),
        "plan": KEYS.plan,
        **{name: KEYS.data(shard.shard_id, "first", name) for name in TABLES},
    }
    return Sweep(store, plan, records)


@contextmanager
def replaced(store: LocalStore, contents: dict[str, bytes]) -> Iterator[None]:
    """Puts these bytes into the store, and puts the old ones back afterwards."""
    paths = {store.root / key: data for key, data in contents.items()}
    before = {path: path.read_bytes() for path in paths}
    for path, data in paths.items():
        path.write_bytes(data)
    try:
        yield
    finally:
        for path, data in before.items():
            path.write_bytes(data)


def read_everything(store: LocalStore) -> None:
    """Reads the store as every command and every driver does."""
    text = io.StringIO()
    terminal = Terminal(file=text, width=200, markup=False, highlight=False)
    for read in (_status, _collect, _drive):
        try:
            read(store, terminal)
        except ZilsweepError as error:
            terminal.print(str(error))
    moving = {char for char in text.getvalue() if category(char) in ("Cc", "Cs", "Zl", "Zp")}
    assert moving <= {"\n", "\t"}
    assert text.getvalue()


def _status(store: LocalStore, terminal: Terminal) -> None:
    if plan := read_plan(store, "a", EXPERIMENTS):
        view = StatusView(terminal, store, first_command(store, "a"), "collect")
        view.show(Lookout(store, plan).status())


def _collect(store: LocalStore, terminal: Terminal) -> None:
    made = collected(store, "a")
    print_report(terminal, made)
    for rows in made.tables.values():
        to_parquet(rows)
    require_complete(made)


def _drive(store: LocalStore, terminal: Terminal) -> None:
    drivers = Heartbeat(store, "a").others()
    terminal.print(", ".join(driver.hostname for driver in drivers))


def same(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()


def forged(sweep: Sweep, kind: str, data: st.DataObject) -> bytes:
    """A record of this kind that nobody would write."""
    if data.draw(st.integers(0, 4), label="just bytes if 0") == 0:
        return data.draw(BYTES)
    real = sweep.store.get(sweep.records[kind]) or b""
    body = json.loads(real) if kind == "sign" else unseal(real)
    return (same if kind == "sign" else sealed_again)(data.draw(changed(body)))


def any_record_is_read(sweep: Sweep, kind: str, data: st.DataObject) -> None:
    with replaced(sweep.store, {sweep.records[kind]: forged(sweep, kind, data)}):
        read_everything(sweep.store)


@pytest.mark.parametrize("kind", RECORDS)
@QUICK
@given(data=st.data())
def test_any_record_ends_in_a_result_or_in_one_error(
    sweep: Sweep, kind: str, data: st.DataObject
) -> None:
    any_record_is_read(sweep, kind, data)


@pytest.mark.long
@pytest.mark.parametrize("kind", RECORDS)
@THOROUGH
@given(data=st.data())
def test_any_of_hundreds_of_records(sweep: Sweep, kind: str, data: st.DataObject) -> None:
    any_record_is_read(sweep, kind, data)


def forged_table(rows: pa.Table, data: st.DataObject) -> bytes:
    """The bytes of a table with other columns or other values, or just bytes."""
    name = data.draw(st.sampled_from(rows.column_names))
    place, count = rows.column_names.index(name), rows.num_rows
    act = data.draw(st.sampled_from(["bytes", "drop", "values", "type", "fewer", "twice"]))
    if act == "bytes":
        return data.draw(BYTES)
    if act == "drop":
        return to_parquet(rows.drop_columns([name]))
    if act == "fewer":
        return to_parquet(rows.slice(0, data.draw(st.integers(0, count))))
    if act == "twice":
        return to_parquet(pa.concat_tables([rows, rows]))
    kind = rows.schema.field(name).type
    if act == "type":
        kind = data.draw(st.sampled_from([pa.string(), pa.float64(), pa.int64(), pa.bool_()]))
    whole = st.none() | st.integers(0, 9)
    drawn = {
        pa.string(): st.none() | st.sampled_from(["", "x", "done", "failed", "\x1b[2J"]),
        pa.float64(): st.none() | st.floats(),
        pa.bool_(): st.none() | st.booleans(),
    }.get(kind, st.none() | st.lists(whole, max_size=3) if pa.types.is_list(kind) else whole)
    values = data.draw(st.lists(drawn, min_size=count, max_size=count))
    return to_parquet(rows.set_column(place, pa.field(name, kind), pa.array(values, kind)))


def any_table_is_read(sweep: Sweep, name: str, data: st.DataObject) -> None:
    """The commit, which names the table, has the sha256 of the forged one."""
    key, commit_key = sweep.records[name], sweep.records["commit"]
    made = forged_table(from_parquet(sweep.store.get(key) or b""), data)
    body = unseal(sweep.store.get(commit_key) or b"")
    for file in body["files"]:
        if file["table"] == name:
            file |= {"size": len(made), "sha256": hashlib.sha256(made).hexdigest()}
    with replaced(sweep.store, {key: made, commit_key: seal(body)}):
        read_everything(sweep.store)


@pytest.mark.parametrize("name", TABLES)
@QUICK
@given(data=st.data())
def test_any_committed_table_ends_in_a_result_or_in_one_error(
    sweep: Sweep, name: str, data: st.DataObject
) -> None:
    any_table_is_read(sweep, name, data)


@pytest.mark.long
@pytest.mark.parametrize("name", TABLES)
@THOROUGH
@given(data=st.data())
def test_any_of_hundreds_of_tables(sweep: Sweep, name: str, data: st.DataObject) -> None:
    any_table_is_read(sweep, name, data)


@pytest.fixture(scope="module")
def stopped(small_engine: Engine) -> tuple[list[Trial], bytes]:
    """Trials, and the file of their checkpoint after the first of two epochs."""
    config = {"network": "784-8-10", "epochs": 2, "batch_size": 100}
    trials = [Trial(configuration(rule=rule, **config), 1) for rule in ("Z-IL", "BP")]
    saved: list[Checkpoint] = []
    small_engine.run(trials, save=saved.append)
    return trials, to_bytes(saved[0], "here")


def training_goes_on(
    engine: Engine, stopped: tuple[list[Trial], bytes], data: st.DataObject
) -> None:
    """A forged checkpoint is not used, or the training goes on from it to its end."""
    trials, whole = stopped
    with np.load(io.BytesIO(whole)) as loaded:
        arrays = dict(loaded)
    header = data.draw(changed(json.loads(arrays["header"].tobytes())))
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    if data.draw(st.booleans()):
        name = data.draw(st.sampled_from(sorted(arrays)))
        arrays[name] = data.draw(st.sampled_from([arrays[name][:1], arrays[name].T, np.zeros(3)]))
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    found = from_bytes(sealed(file.getvalue()), "here", trials)
    if found is not None:
        rows = shard_rows(engine.run(trials, resume=found), Origin(sweep="a", shard_id="0"))
        for name, kind in SHARD_TABLES.row_types.items():
            to_parquet(table(kind, rows[name], {}))


@QUICK
@given(data=st.data())
def test_any_checkpoint_is_used_to_the_end_or_not_at_all(
    small_engine: Engine, stopped: tuple[list[Trial], bytes], data: st.DataObject
) -> None:
    training_goes_on(small_engine, stopped, data)


@pytest.mark.long
@THOROUGH
@given(data=st.data())
def test_any_of_hundreds_of_checkpoints(
    small_engine: Engine, stopped: tuple[list[Trial], bytes], data: st.DataObject
) -> None:
    training_goes_on(small_engine, stopped, data)
