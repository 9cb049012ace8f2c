"""Tests of questions in a few words. The oracle goes through the rows one by one, in Python, and
takes means and standard deviations from the module `statistics`."""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from builders import ablation, commit, commit_all, planned, record_failure

from cluster.query.filters import condition, from_values
from cluster.query.overview import rows_of, summary_of
from cluster.query.session import Session
from cluster.query.shape import shape_of
from cluster.query.summary import FEW, Wanted
from cluster.query.views import Asked
from jobs.experiments import EXPERIMENTS
from jobs.mnist_ablation.experiment import ABLATION
from pcworker.errors import InputError
from pcworker.store.local import LocalStore
from pcworker.trials.trial import Trial

Row = Mapping[str, Any]
SEEDS = [1, 2, 3]
CONFIGURED = ["rule", "t", "t_d", "horizon", "gamma", "sigma", "arithmetic", "schedule"]
"""The columns of the configuration that differ within the sweep of `ablation`."""


def uneven(trial: Trial) -> float | None:
    """A drift that is another one for every seed. Some trials are not finite."""
    config = trial.configuration
    if config.gamma == 10 and trial.seed != 2:
        return None
    return 0.0 if config.rule == "BP" else trial.seed * 0.125 + (config.sigma or 0)


@pytest.fixture
def session(tmp_path: Path) -> Session:
    store = LocalStore(tmp_path)
    plan = planned(store, ablation(seeds=SEEDS, epochs=2), "a")
    commit_all(store, plan, uneven)
    return Session(store, [Asked((plan,))])


def everything(session: Session, table: str) -> list[Row]:
    """The rows of a table, each with what is known of its trial."""
    trials = {row["trial_id"]: row for row in session.ask("SELECT * FROM trials").to_pylist()}
    rows = session.ask(f"SELECT * FROM {table}").to_pylist()
    return [{**trials.get(row.get("trial_id"), {}), **row} for row in rows]


def grouped(rows: Iterable[Row], by: Sequence[str]) -> dict[tuple[Any, ...], list[Row]]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in by), []).append(row)
    return groups


def check(answer: list[Row], rows: Iterable[Row], by: Sequence[str], column: str) -> None:
    """Checks the statistics of a column of numbers."""
    expected = grouped(rows, by)
    assert len(answer) == len(expected) > 0
    for row in answer:
        group = expected[tuple(row[name] for name in by)]
        found = [float(each[column]) for each in group if each[column] is not None]
        values = [value for value in found if math.isfinite(value)]
        assert row["trials"] == len({each["trial_id"] for each in group})
        assert row[f"{column}_n"] == len(values)
        if not values:
            assert row[f"{column}_mean"] is row[f"{column}_sd"] is row[f"{column}_se"] is None
            continue
        assert row[f"{column}_mean"] == pytest.approx(statistics.fmean(values), rel=1e-14)
        if len(values) == 1:
            assert row[f"{column}_sd"] is row[f"{column}_se"] is None
        else:
            sd = statistics.stdev(values)
            assert row[f"{column}_sd"] == pytest.approx(sd, rel=1e-12, abs=1e-17)
            assert row[f"{column}_se"] == pytest.approx(sd / math.sqrt(len(values)), abs=1e-17)


@pytest.mark.parametrize(
    ("table", "by", "column"),
    [
        ("trials", ("rule",), "final_test_error"),
        ("trials", ("rule", "gamma"), "final_test_error"),
        ("trials", ("seed", "status"), "updates"),
        ("trials", ("rule",), "nonfinite_epoch"),
        ("epochs", ("epoch",), "weight_l2_to_twin"),
        ("epochs", ("rule", "sigma", "epoch"), "test_error"),
        ("weights", ("hidden_layers", "layer"), "layer"),
    ],
)
def test_statistics_are_those_of_a_slow_reference(
    session: Session, table: str, by: tuple[str, ...], column: str
) -> None:
    answer = summary_of(session, table, Wanted(group_by=by, columns=(column,))).to_pylist()
    check(answer, everything(session, table), by, column)


@pytest.mark.parametrize(("table", "more"), [("trials", []), ("epochs", ["epoch"])])
def test_without_groups_a_group_is_the_seeds_of_a_configuration(
    session: Session, table: str, more: list[str]
) -> None:
    answer = summary_of(session, table, Wanted())
    by = [*CONFIGURED, *more]
    assert answer.column_names[: len(by)] == by
    column = "test_error" if more else "final_test_error"
    check(answer.to_pylist(), everything(session, table), by, column)
    assert set(answer["trials"].to_pylist()) == {len(SEEDS)}


def test_a_column_that_does_not_differ_after_the_filters_is_no_group(session: Session) -> None:
    wanted = Wanted(filters=("rule=Z-IL", "sigma=0"), columns=("final_test_error",))
    for table in ("trials", "epochs"):
        column = ("final_test_error",) if table == "trials" else ("test_error",)
        answer = summary_of(session, table, Wanted(filters=wanted.filters, columns=column))
        assert answer.column_names[0] == "gamma"
        assert answer.column_names[1] == ("trials" if table == "trials" else "epoch")


def test_sweeps_that_are_told_apart_are_groups(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    plans = [planned(store, ablation(seeds=[seed]), name) for seed, name in ((1, "a"), (2, "b"))]
    for plan in plans:
        commit_all(store, plan)
    asked = Wanted(filters=("rule=BP",), columns=("final_test_error",))
    apart = summary_of(Session(store, [Asked((p,)) for p in plans]), "trials", asked).to_pylist()
    assert [(row["sweep"], row["trials"]) for row in apart] == [("a", 1), ("b", 1)]
    (together,) = summary_of(Session(store, [Asked(tuple(plans))]), "trials", asked).to_pylist()
    assert together["trials"] == 2


def test_numbers_that_are_not_finite_are_no_values_but_their_trials_count(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    plan = planned(store, ablation(seeds=SEEDS), "a")
    strange = {1: math.inf, 2: math.nan, 3: 0.5}
    commit_all(store, plan, lambda trial: strange[trial.seed])
    asked = Wanted(group_by=("rule",), columns=("test_error",), filters=("rule=IL",))
    session = Session(store, [Asked((plan,))])
    (row,) = summary_of(session, "epochs", asked).to_pylist()
    per_seed = sum(row["rule"] == "IL" for row in everything(session, "epochs")) // 3
    assert (row["trials"], row["test_error_n"]) == (3 * per_seed, per_seed)
    assert row["test_error_mean"] == 1.0


def test_texts_and_booleans_are_counted(session: Session) -> None:
    columns = ("status", "packing_invariant", "trial_id")
    answer = summary_of(session, "trials", Wanted(group_by=("rule",), columns=columns))
    groups = grouped(everything(session, "trials"), ("rule",))
    for row in answer.to_pylist():
        group = groups[row["rule"],]
        states = Counter(each["status"] for each in group)
        assert (row["status_done"], row["status_nonfinite"]) == (
            states["done"],
            states["nonfinite"],
        )
        assert row["packing_invariant_true"] == row["packing_invariant_n"] == len(group)
        assert row["trial_id_values"] == len(group)


def test_a_few_texts_have_a_column_each_and_many_have_one(session: Session) -> None:
    def columns(name: str, **more: Any) -> list[str]:
        made = summary_of(session, "trials", Wanted(group_by=(), columns=(name,), **more))
        return made.column_names[1:]

    assert columns("rule") == ["rule_BP", "rule_Fa-Z-IL", "rule_IL", "rule_Z-IL"]
    assert columns("schedule") == ["schedule_layerwise", "schedule_literal", "schedule_null"]
    assert columns("trial_id") == ["trial_id_values"]
    few = len(columns("trial_id", filters=("rule=BP|Fa-Z-IL", "seed=1|2")))
    assert few == 4 <= FEW


def test_a_table_without_trials_counts_rows(session: Session) -> None:
    (row,) = summary_of(session, "divergence", Wanted(group_by=(), columns=("exact",))).to_pylist()
    rows = session.ask("SELECT exact FROM divergence")["exact"].to_pylist()
    assert (row["rows"], row["exact_true"]) == (len(rows), sum(rows))
    assert row["exact_n"] == len(rows) - rows.count(None)


SIGNS = {
    "rule=IL": lambda row: row["rule"] == "IL",
    "rule=IL|BP": lambda row: row["rule"] in ("IL", "BP"),
    "rule!=IL": lambda row: row["rule"] != "IL",
    "t=0|16": lambda row: row["t"] in (0, 16),
    "t!=16": lambda row: row["t"] != 16,
    "t=null": lambda row: row["t"] is None,
    "t=": lambda row: row["t"] is None,
    "t!=null": lambda row: row["t"] is not None,
    "t=null|0": lambda row: row["t"] in (None, 0),
    "t!=null|0": lambda row: row["t"] not in (None, 0),
    "gamma>1": lambda row: row["gamma"] is not None and row["gamma"] > 1,
    "gamma >= 1.0": lambda row: row["gamma"] is not None and row["gamma"] >= 1,
    "t<16": lambda row: row["t"] is not None and row["t"] < 16,
    "t<=15.5": lambda row: row["t"] is not None and row["t"] <= 15.5,
    "bias=false": lambda row: not row["bias"],
    "bias!=False": lambda row: row["bias"],
    "sigma=0.1": lambda row: row["sigma"] == 0.1,
    "sweep=a": lambda row: True,
    "rule=it's": lambda row: False,
    'rule=" OR true --': lambda row: False,
}


@pytest.mark.parametrize("text", SIGNS)
def test_a_filter_keeps_the_rows_that_it_states(session: Session, text: str) -> None:
    for table in ("trials", "epochs"):
        rows = everything(session, table)
        wanted = Wanted(filters=(text,), columns=("trial_id",))
        found = Counter(rows_of(session, table, wanted)["trial_id"].to_pylist())
        assert found == Counter(row["trial_id"] for row in rows if SIGNS[text](row))


def test_several_filters_hold_at_once(session: Session) -> None:
    wanted = Wanted(filters=("rule=IL", "t=16", "seed=2"), columns=("trial_id",))
    expected = [
        row["trial_id"]
        for row in everything(session, "trials")
        if (row["rule"], row["t"], row["seed"]) == ("IL", 16, 2)
    ]
    assert sorted(rows_of(session, "trials", wanted)["trial_id"].to_pylist()) == sorted(expected)


def test_a_large_seed_keeps_all_its_digits() -> None:
    shape = shape_of("trials", [ABLATION])
    assert condition(f"seed={2**63 - 1}", shape).values == (2**63 - 1,)


def test_values_in_python_are_conditions() -> None:
    where = {"rule": "IL", "t": [4, None], "bias": True, "gamma": 0.1}
    assert from_values(where) == ["rule=IL", "t=4|null", "bias=True", "gamma=0.1"]
    with pytest.raises(InputError, match="t has an empty list"):
        from_values({"t": []})


@pytest.mark.parametrize("sign", ["", "-"])
def test_the_order_and_the_limit_are_those_that_are_asked(session: Session, sign: str) -> None:
    wanted = Wanted(columns=("final_test_error", "seed"), sort=(f"{sign}final_test_error", "seed"))
    rows = rows_of(session, "trials", wanted).to_pylist()
    values = [row["final_test_error"] for row in rows]
    finite = [value for value in values if value is not None]
    assert values == [*sorted(finite, reverse=bool(sign)), *[None] * (len(values) - len(finite))]
    for one, next_one in pairwise(rows):
        if one["final_test_error"] == next_one["final_test_error"]:
            assert one["seed"] <= next_one["seed"]
    few = Wanted(columns=wanted.columns, sort=wanted.sort, limit=3)
    assert rows_of(session, "trials", few).to_pylist() == rows[:3]


def test_a_summary_is_sorted_by_its_own_columns(session: Session) -> None:
    wanted = Wanted(
        group_by=("rule",), columns=("final_test_error",), sort=("-final_test_error_mean",), limit=2
    )
    means = summary_of(session, "trials", wanted)["final_test_error_mean"].to_pylist()
    full = Wanted(group_by=("rule",), columns=("final_test_error",))
    every = summary_of(session, "trials", full)["final_test_error_mean"].to_pylist()
    assert means == sorted(every, reverse=True)[:2]
    short = Wanted(group_by=("rule",), columns=("final_test_error",), sort=("-final_test_error",))
    assert summary_of(session, "trials", short)["final_test_error_mean"].to_pylist()[:2] == means


@pytest.mark.parametrize("groups", [None, (), ("rule",)])
def test_a_summary_of_no_rows_has_no_rows(session: Session, groups: tuple[str, ...] | None) -> None:
    wanted = Wanted(filters=("rule=ZIL",), group_by=groups)
    assert summary_of(session, "trials", wanted).num_rows == 0


def test_rows_without_columns_are_whole(session: Session) -> None:
    assert rows_of(session, "epochs", Wanted()) == session.ask("SELECT * FROM epochs")


def test_failures_are_grouped_by_what_is_asked(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    plan = planned(store, ablation(), "a")
    first, second = plan.shards
    record_failure(store, plan, first, traceback="Traceback ...\n" * 9)
    commit(store, plan, second)
    session = Session(store, [Asked((plan,))])
    wanted = Wanted(group_by=("kind",), columns=("quarantined", "traceback"))
    assert summary_of(session, "failures", wanted).to_pylist() == [
        {
            **{"kind": "error", "rows": 1, "quarantined_true": 1, "quarantined_n": 1},
            "traceback_values": 1,
        }
    ]
    (failed,) = summary_of(
        session, "trials", Wanted(filters=("status=failed",), columns=("status",), group_by=())
    ).to_pylist()
    assert failed == {"trials": len(first.trials), "status_failed": len(first.trials)}


MISTAKES = [
    (Wanted(filters=("rul=IL",)), "'rul'; use one of rule"),
    (Wanted(filters=("rule",)), "give a column, one of = !="),
    (Wanted(filters=("t=four",)), "'four' is not a number"),
    (Wanted(filters=("bias=maybe",)), "'maybe' is not true or false"),
    (Wanted(filters=("t<4|16",)), "< takes one value"),
    (Wanted(filters=("t>null",)), "> takes one value"),
    (Wanted(group_by=("networks",)), "'networks'; use one of network"),
    (Wanted(columns=("test_error",)), "'test_error'; use one of final_test_error"),
    (Wanted(sort=("final_test_errors",)), "'final_test_errors'; use one of final_test_error_"),
]


@pytest.mark.parametrize(("wanted", "said"), MISTAKES)
def test_a_mistake_is_said_with_what_is_near(session: Session, wanted: Wanted, said: str) -> None:
    with pytest.raises(InputError) as refused:
        summary_of(session, "trials", wanted)
    assert said in str(refused.value)


def test_a_column_of_lists_has_no_mean(session: Session) -> None:
    with pytest.raises(InputError, match="value holds lists"):
        summary_of(session, "weights", Wanted(columns=("value",)))
    with pytest.raises(InputError, match="holds lists"):
        rows_of(session, "weights", Wanted(filters=("value=1",)))
    with pytest.raises(InputError, match="leave out --group-by"):
        rows_of(session, "trials", Wanted(group_by=("rule",)))
    with pytest.raises(InputError, match="no table 'trails'; use one of trials"):
        rows_of(session, "trails", Wanted())


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=lambda each: each.name)
def test_no_column_is_two_things_at_once(experiment: Any) -> None:
    for table in (*experiment.tables.row_types, *experiment.derived, "failures"):
        shape = shape_of(table, [experiment])
        parts = [*shape.configuration, *shape.axes, *shape.measures]
        assert len(set(parts)) == len(parts)
        assert set(parts) <= set(shape.types)
        assert not {"trial_id", "seed", "sweep", "hostname"} & set(parts)


def test_what_a_row_of_table_3_is_about_are_groups() -> None:
    shape = shape_of("detection", list(EXPERIMENTS.values()))
    assert shape.axes == ("stage", "layer", "t_d", "horizon", "tolerance")
    assert {"pairs", "only_at_l", "status"} <= set(shape.measures)
