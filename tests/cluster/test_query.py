"""Tests of the views over a sweep's tables, and of the locked DuckDB that answers with them."""

import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import (
    Counting,
    ablation,
    commit,
    commit_all,
    flipped,
    paper_drift,
    planned,
    record_failure,
    weights,
)

from cluster.query.session import Session
from cluster.query.views import Asked
from cluster.results.collect import collect, write_tables
from cluster.sweeps.plan import Plan
from pcworker.errors import InputError
from pcworker.store.local import LocalStore

EVERY = ("trials", "epochs", "weights", "divergence", "failures")


def session(store: LocalStore, *plans: Plan | Sequence[Plan]) -> Session:
    of = (plan if isinstance(plan, Sequence) else [plan] for plan in plans)
    return Session(store, [Asked(tuple(each)) for each in of])


def files(store: LocalStore) -> dict[str, bytes]:
    return {key: store.get(key) or b"" for key in store.list("sweeps/")}


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


@pytest.mark.parametrize("is_collected", [False, True])
@pytest.mark.parametrize("name", EVERY)
def test_a_view_has_the_rows_of_the_collectors_table(
    store: LocalStore, name: str, is_collected: bool
) -> None:
    plan = planned(store, ablation(), "a")
    commit_all(store, plan)
    made = collect(store, [plan])
    if is_collected:
        write_tables(store, made)
    before = files(store)
    asking = session(store, plan)
    rows = asking.ask(f"SELECT * FROM {name}")
    expected = made.tables[name]
    assert rows.select(expected.column_names).to_pylist() == expected.to_pylist()
    if "sweep" not in expected.column_names:
        assert set(rows["sweep"].to_pylist()) == {"a"}
    assert files(store) == before
    assert asking.remarks == ()


def test_a_collected_table_is_read_instead_of_commits(store: LocalStore) -> None:
    plan = planned(store, ablation(), "a")
    commit_all(store, plan)
    write_tables(store, collect(store, [plan]))
    for key in store.list(plan.keys.shards):
        store.delete(key)
    assert session(store, plan).ask("SELECT count(*) n FROM trials")["n"].to_pylist() == [8]


@pytest.mark.parametrize("name", EVERY)
def test_a_damaged_table_gives_no_other_rows(store: LocalStore, name: str) -> None:
    plan = planned(store, ablation(), "a")
    commit_all(store, plan)
    record_failure(store, plan, plan.shards[0], quarantined=False)
    write_tables(store, collect(store, [plan]))
    expected = session(store, plan).ask(f"SELECT * FROM {name}")
    path = store.root / plan.keys.table(name)
    whole = path.read_bytes()
    pages = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    refused = 0
    for place in range(4, pages, max(1, pages // 20)):
        path.write_bytes(flipped(whole, place))
        try:
            assert session(store, plan).ask(f"SELECT * FROM {name}").equals(expected), place
        except InputError as error:
            assert "python -m jobs.collect makes it anew" in str(error)
            refused += 1
    assert refused > 5


def test_what_a_question_does_not_need_is_not_read(tmp_path: Path) -> None:
    store = Counting(tmp_path)
    plan = planned(store, ablation(), "a")
    commit_all(store, plan)
    for table, files in (
        ("divergence", {"epochs", "weights"}),
        ("epochs", {"epochs"}),
        ("failures", set()),
    ):
        store.read.clear()
        session(store, plan).ask(f"SELECT * FROM {table}")
        read = {Path(key).stem for key in store.read if key.startswith(plan.keys.shards)}
        assert read == {"commit", *files}


def test_a_table_with_holes_is_not_believed(store: LocalStore) -> None:
    plan = planned(store, ablation(), "a")
    first, *others = plan.shards
    commit(store, plan, first)
    write_tables(store, collect(store, [plan]))
    asking = session(store, plan)
    assert count(asking) == len(first.trials)
    assert asking.remarks == (f"a: {8 - len(first.trials)} of 8 trials have no result",)
    for shard in others:
        commit(store, plan, shard)
    assert count(asking) == 8
    assert asking.remarks == ()


def count(asking: Session) -> int:
    (n,) = asking.ask("SELECT count(*) AS n FROM trials")["n"].to_pylist()
    return int(n)


def test_two_sweeps_are_told_apart_and_together_they_are_one(store: LocalStore) -> None:
    plans = [
        planned(store, ablation(seeds=seeds), name) for name, seeds in (("a", [1]), ("b", [1, 2]))
    ]
    for plan in plans:
        commit_all(store, plan)
    sql = "SELECT sweep, count(*) AS n FROM epochs GROUP BY ALL ORDER BY ALL"
    assert session(store, *plans).ask(sql).to_pylist() == [
        {"sweep": "a", "n": 8},
        {"sweep": "b", "n": 16},
    ]
    assert session(store, plans).ask(sql).to_pylist() == [{"sweep": "a+b", "n": 16}]


def test_tables_of_a_deleted_sweep_are_not_those_of_another_with_its_name(
    store: LocalStore,
) -> None:
    """Deleting a sweep leaves the tables that it has together with others."""
    first, other = (planned(store, ablation(seeds=[k]), name) for k, name in ((1, "a"), (2, "b")))
    for plan in (first, other):
        commit_all(store, plan)
    write_tables(store, collect(store, [first, other]))
    for key in store.list(first.keys.folder):
        store.delete(key)
    second = planned(store, ablation(seeds=[5]), "a")
    commit_all(store, second)
    found = session(store, [second, other]).ask("SELECT DISTINCT seed FROM trials ORDER BY ALL")
    assert found["seed"].to_pylist() == [2, 5]


def test_weights_have_their_own_shape_and_dtype(store: LocalStore) -> None:
    plan = planned(store, ablation(), "a")
    commit_all(store, plan)
    trial = next(t for t in plan.trials if t.configuration.rule == "Z-IL")
    drift = paper_drift(trial)
    assert drift is not None
    for l, layer in session(store, plan).weights(trial.trial_id).items():
        assert layer["weight"].dtype == np.dtype(trial.configuration.dtype)
        assert np.array_equal(layer["weight"], weights(trial, drift)[l - 1][0])


def test_different_weights_of_a_trial_are_not_mixed(store: LocalStore) -> None:
    """One of the two would be taken, and nobody would know which."""
    plans = [planned(store, ablation(), name) for name in "ab"]
    for plan, drift in zip(plans, (0.0, 0.25), strict=True):
        commit_all(store, plan, lambda trial, drift=drift: drift)  # type: ignore[misc]
    trial_id = plans[0].trials[0].trial_id
    assert session(store, plans[0]).weights(trial_id)
    with pytest.raises(InputError, match="the sweeps hold different weights of trial"):
        session(store, *plans).weights(trial_id)


def test_a_view_of_the_views_shows_what_is_committed_now(store: LocalStore) -> None:
    plan = planned(store, ablation(), "a")
    first, *others = plan.shards
    commit(store, plan, first)
    asking = session(store, plan)
    asking.ask("CREATE VIEW mine AS SELECT DISTINCT trial_id FROM trials")
    count = "SELECT count(*) AS n FROM mine SEMI JOIN epochs USING (trial_id)"
    assert asking.ask(count).to_pylist() == [{"n": len(first.trials)}]
    asking.ask("SELECT * FROM epochs")
    for shard in others:
        commit(store, plan, shard)
    finite = asking.ask("SELECT count(DISTINCT trial_id) AS n FROM epochs").to_pylist()
    assert asking.ask(count).to_pylist() == finite != [{"n": len(first.trials)}]


def test_a_trial_without_weights_is_named(store: LocalStore) -> None:
    plan = planned(store, ablation(), "a")
    with pytest.raises(InputError, match="'nobody' has no final weights"):
        session(store, plan).weights("nobody")


@pytest.mark.parametrize("rows", [f"range({10**11}) t(x)", f"range({4 * 10**9}) t(x), trials"])
def test_a_query_can_be_interrupted(store: LocalStore, rows: str) -> None:
    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    plan = planned(store, ablation(), "a")
    commit_all(store, plan)
    asking = session(store, plan)
    signal.signal(signal.SIGALRM, interrupt)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        signal.setitimer(signal.ITIMER_REAL, 2.0)
        asking.ask(f"SELECT sum(x % 7) FROM {rows}")  # It takes minutes.
    assert time.monotonic() - began < 6
    assert count(asking) == 8


def test_sums_are_numbers_and_columns_have_names_of_their_own(store: LocalStore) -> None:
    asking = session(store, planned(store, ablation(), "a"))
    answer = asking.ask(
        f"SELECT sum(i) AS n, sum(i) AS n, 1.5 AS x, {10**30} AS y FROM range(4) r(i)"
    )
    assert answer.to_pylist() == [{"n": 6, "n_1": 6, "x": 1.5, "y": 1e30}]
    assert answer.schema.types == [pa.int64(), pa.int64(), pa.float64(), pa.float64()]


ATTACKS = [
    "COPY trials TO '{out}/x.csv'",
    "COPY (SELECT 1) TO '.tmp/x.csv'",
    "EXPORT DATABASE '{out}'",
    "ATTACH '{out}/x.db'",
    "SELECT * FROM read_csv('{secret}')",
    "SELECT * FROM read_text('{secret}')",
    "SELECT * FROM read_blob('{secret}')",
    "SELECT * FROM '{secret}'",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM read_parquet('{parquet}')",
    "SELECT * FROM parquet_metadata('{parquet}')",
    "IMPORT DATABASE '{out}'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '{out}/x.duckdb_extension'",
    "SET enable_external_access = true",
    "SET temp_directory = '{out}'",
    "SET lock_configuration = false",
    "RESET enable_external_access",
    "PRAGMA enable_logging",
    "SELECT * FROM secret_variable",
    "SELECT getenv('HOME')",
    "CREATE SECRET s (TYPE s3)",
    "SELECT 1; COPY (SELECT 1) TO '{out}/x.csv'",
    "SELECT * FROM query('SELECT * FROM read_text(''{secret}'')')",
    "SELECT * FROM query_table('{secret}')",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_statement_reaches_anything_but_the_tables(tmp_path: Path, attack: str) -> None:
    secret_variable = pa.table({"a": [1]})  # Python variables are out of reach, too
    store = LocalStore(tmp_path / "store")
    plan = planned(store, ablation(), "a")
    commit_all(store, plan)
    out, secret, parquet = (tmp_path / name for name in ("out", "secret.txt", "secret.parquet"))
    out.mkdir()
    secret.write_text("secret")
    pq.write_table(secret_variable, parquet)
    before = files(store)
    asking = session(store, plan)
    with pytest.raises(InputError, match="cannot be answered"):
        asking.ask(attack.format(out=out, secret=secret, parquet=parquet))
    assert not list(out.iterdir())
    assert files(store) == before
    assert count(asking) == 8
