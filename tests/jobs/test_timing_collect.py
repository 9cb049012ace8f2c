"""Tests of the way from committed timings to tables, terminal and figure. The times are made up.

Oracle: closed forms. In every turn, rule k takes k + 1 times as long as BP.
"""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from builders import ablation, commit_all, planned, record_failure, rewrite, where
from command_lines import called
from pages import page_of_collected, require_same_answers
from rich.console import Console

from cluster.report.publish import print_next, publish, require_complete
from cluster.results.collect import Collected, collect, stored_plans, write_tables
from cluster.sweeps.plan import Plan, Shard
from jobs.experiments import EXPERIMENTS
from jobs.imagenet_timing.experiment import TIMING
from jobs.imagenet_timing.results import Comparison, TrialTiming
from jobs.imagenet_timing.shown.figure import draw_table4
from jobs.imagenet_timing.shown.report import ms
from jobs.imagenet_timing.shown.views import (
    PAPER_MS,
    by_steps,
    cost_of_a_step,
    method,
    methods,
    paper,
    runs,
    series,
)
from jobs.imagenet_timing.sweep import imagenet_timing
from jobs.imagenet_timing.tables import TIMING_TABLES, TimingRow
from pcworker.errors import DamagedError, IncompleteError, InputError
from pcworker.store.commit import commit_shard
from pcworker.store.in_turns import TurnsResult
from pcworker.store.keys import SweepKeys
from pcworker.store.local import LocalStore
from pcworker.store.parquet import schema_of, to_parquet
from pcworker.store.store import Store
from pcworker.store.tables import final_parameter
from pcworker.trials.configuration import CHOICES
from pcworker.trials.trial import Trial

TURNS = (2.0, 20.0, 4.0, 8.0, 6.0)
"""The turns of BP, in milliseconds per update. The machine was busy in the second one."""


def timing_plan(store: Store, name: str = "a", **changes: Any) -> Plan[Any]:
    values: dict[str, Any] = {
        "networks": ["small-conv", "mlp"],
        "seeds": [1],
        "rules": CHOICES["rule"],
        "schedules": ["layerwise", "literal"],
        "t": [10, 20],
        "updates": len(TURNS),
    }
    return planned(store, imagenet_timing(**(values | changes)), name, TIMING)


def timed(trial: Trial[Any], times_bp: float, exact: bool) -> TrialTiming:
    loading = trial.configuration.loaders is not None
    value = np.array([1.0 if exact else 1.0 + times_bp], np.float32)
    return TrialTiming(
        trial=trial,
        milliseconds=[times_bp * ms for ms in TURNS],
        loop_milliseconds=[times_bp * ms + 1.0 for ms in TURNS] if loading else None,
        peak_bytes=int(100 * times_bp) * 2**20,
        finite=True,
        to_bp=Comparison(exact, 0.0 if exact else times_bp, 0.0 if exact else times_bp / 2),
        parameters=[final_parameter(1, "weight", value)],
    )


def result(trials: Sequence[Trial[Any]]) -> TurnsResult[TrialTiming]:
    made = [
        timed(trial, k + 1.0, exact=trial.configuration.rule in ("BP", "Z-IL"))
        for k, trial in enumerate(trials)
    ]
    return TurnsResult(made, 5.0, 7 * len(trials))


def commit(store: Store, plan: Plan[Any], shard: Shard[Any], **host: Any) -> str:
    keys = SweepKeys(plan.name)
    made = result(shard.trials)
    return commit_shard(
        store, keys, shard.shard_id, "first", made, TIMING_TABLES, where(plan.name, **host)
    )


def committed(store: Store, name: str = "a", **changes: Any) -> Collected:
    plan = timing_plan(store, name, **changes)
    for shard in plan.shards:
        commit(store, plan, shard)
    return collect(store, stored_plans(store, [name], EXPERIMENTS))


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


def printed(store: Store, made: Collected) -> str:
    out = io.StringIO()
    console = Console(file=out, width=60, markup=False, highlight=False)
    print_next(store, publish(store, made.plans, console, partial=True), console)
    return out.getvalue()


def test_medians_percentiles_and_ratios_are_columns(store: LocalStore) -> None:
    made = committed(store)
    require_complete(made)
    assert sorted(made.tables) == ["failures", "timings", "weights"]
    assert len(made.rows("timings")) == 14
    for run in runs(made.rows("timings")):
        for k, row in enumerate(sorted(run.rows, key=lambda row: row["ms_per_update_median"])):
            assert row["ms_per_update"] == [(k + 1) * ms for ms in TURNS]
            assert row["ms_per_update_median"] == pytest.approx(6.0 * (k + 1))
            assert row["ms_per_update_p10"] == pytest.approx(2.8 * (k + 1))
            assert row["ms_per_update_p90"] == pytest.approx(15.2 * (k + 1))
            for statistic in ("median", "p10", "p90"):  # the busy turn does not matter
                assert row[f"ratio_to_bp_{statistic}"] == pytest.approx(k + 1)
            assert row["loop_ms_per_update_median"] is None
            assert row["peak_memory_bytes"] == 100 * (k + 1) * 2**20
            assert (row["network"], row["parameters"]) in (
                ("small-conv", 9_946),
                ("mlp", 78_109_160),
            )


def test_rows_from_before_there_were_executions_are_plain(store: LocalStore) -> None:
    plan = timing_plan(store, networks=["mlp"])
    [shard] = plan.shards
    commit(store, plan, shard)
    key = plan.keys.data(shard.shard_id, "first", "timings")
    older = pq.read_table(io.BytesIO(store.get(key) or b"")).drop_columns("execution")
    data = to_parquet(older)
    store.put(key, data)

    def of_that_file(body: dict[str, Any]) -> dict[str, Any]:
        now = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        files = [file | now if file["key"] == key else file for file in body["files"]]
        return {**body, "files": files}

    rewrite(store, plan.keys.commit(shard.shard_id), of_that_file)
    made = collect(store, [plan])
    require_complete(made)
    assert [row["execution"] for row in made.rows("timings")] == ["plain"] * 7


def test_every_execution_has_a_row_and_a_ratio_to_plain_bp(store: LocalStore) -> None:
    executions = ["plain", "compiled", "graph"]
    made = committed(
        store, networks=["mlp"], schedules=["layerwise"], executions=executions, device_kind="cuda"
    )
    [run] = runs(made.rows("timings"))
    assert [method(row) for row in run.rows] == [
        "BP", "BP, compiled", "BP, graph", "Z-IL", "Z-IL, graph", "Fa-Z-IL", "Fa-Z-IL, graph",
        "IL, t = 10", "IL, t = 10, graph", "IL, t = 20", "IL, t = 20, graph",
    ]  # fmt: skip
    for row in run.rows:
        ratio = row["ms_per_update_median"] / run.bp["ms_per_update_median"]
        assert row["ratio_to_bp_median"] == pytest.approx(ratio)
        assert (paper(row) is None) == (row["execution"] != "plain" or row["t"] == 10)
    assert len(by_steps(run)) == 2
    assert "arithmetic" not in run.title
    text = printed(store, made)
    assert "those of every row are compared with plain BP's" in text
    svg = draw_table4(made.rows("timings"))["svg"].decode()
    assert all(method(row) in svg for row in run.rows)


def test_the_whole_loop_has_columns_of_its_own(store: LocalStore) -> None:
    rows = committed(store, loaders=2).rows("timings")
    bp, *others = sorted(runs(rows)[0].rows, key=lambda row: row["ms_per_update_median"])
    assert bp["loop_ms_per_update_median"] == pytest.approx(7.0)
    assert bp["loop_ratio_to_bp_median"] == 1.0
    assert bp["loaders"] == 2
    ratios = sorted((2 * ms + 1) / (ms + 1) for ms in TURNS)
    assert others[0]["loop_ratio_to_bp_median"] == pytest.approx(ratios[2])


def test_the_store_itself_shows_that_z_il_is_bp(store: LocalStore) -> None:
    made = committed(store)
    write_tables(store, made)
    folder = Path(store.describe(made.keys.table("timings"))).parent
    timings, weights = (pq.read_table(folder / f"{n}.parquet") for n in ("timings", "weights"))
    assert timings.schema.equals(schema_of(TimingRow), check_metadata=False)
    rules = {row["trial_id"]: row["rule"] for row in timings.to_pylist()}
    shas: dict[str, set[str]] = {}
    for row in weights.to_pylist():
        shas.setdefault(rules[row["trial_id"]], set()).add(row["sha256"])
    assert shas["Z-IL"] == shas["BP"]
    assert not shas["IL"] & shas["BP"]


def test_what_is_not_timed_yet_is_missing_and_what_has_failed_is_a_row(store: LocalStore) -> None:
    plan = timing_plan(store)
    first, second = plan.shards
    commit(store, plan, first)
    record_failure(store, plan, second, error="MemoryError: no")
    made = collect(store, [plan])
    with pytest.raises(IncompleteError, match="7 trials have no result yet"):
        require_complete(made)
    failed = [row for row in made.rows("timings") if row["status"] == "failed"]
    network = second.trials[0].configuration.network
    assert {(row["network"], row["sweep"], row["shard_id"]) for row in failed} == {
        (network, "a", second.shard_id)
    }
    assert len(failed) == 7
    assert {row["ms_per_update_median"] for row in failed} == {None}
    assert len(runs(made.rows("timings"))) == 1
    assert "7 trials are missing, 7 of them because their shard failed." in printed(store, made)


def test_two_machines_sweeps_of_the_same_trials_are_both_shown(store: LocalStore) -> None:
    """In other experiments equal trials count once. Here the times of each machine are results."""
    for name in ("laptop", "server"):
        plan = timing_plan(store, name)
        for shard in plan.shards:
            commit(store, plan, shard, hostname=name)
    made = collect(store, stored_plans(store, ["laptop", "server"], EXPERIMENTS))
    assert {(row["sweep"], row["hostname"]) for row in made.rows("timings")} == {
        ("laptop", "laptop"),
        ("server", "server"),
    }
    assert len(made.rows("timings")) == 28
    assert len(runs(made.rows("timings"))) == 4
    assert len(draw_table4(made.rows("timings"))) == 2


def test_a_failure_in_one_sweep_is_not_anothers(store: LocalStore) -> None:
    failed, waiting = timing_plan(store, "failed"), timing_plan(store, "waiting")
    for shard in failed.shards:
        record_failure(store, failed, shard)
    made = collect(store, [failed, waiting])
    assert {(row["sweep"], row["status"]) for row in made.rows("timings")} == {("failed", "failed")}
    assert (len(made.rows("timings")), len(made.missing)) == (14, 28)


def test_joined_sweeps_are_told_apart_and_weights_that_they_share_come_once(
    store: LocalStore,
) -> None:
    for name in ("laptop", "server"):
        committed(store, name)
    committed(store, "other", networks=["small-conv"], rules=["IL"], t=[3])
    made = collect(store, stored_plans(store, ["laptop", "server", "other"], EXPERIMENTS))
    trials = [row["trial_id"] for row in made.tables["weights"].to_pylist()]
    assert len(trials) == len(set(trials)) == 14 + 1  # the other sweep's BP is the same trial
    found = runs(made.rows("timings"))
    assert [[run.network for run in together] for together in series(found)] == [
        ["mlp", "small-conv"], ["mlp", "small-conv"], ["small-conv"]
    ]  # fmt: skip
    text = printed(store, made)
    svg = draw_table4(made.rows("timings"))["svg"].decode()
    for part in ("mlp (laptop, seed 1)", "small-conv (other, seed 1)", "IL, t = 3"):
        assert part in text
    assert "IL, t = 3" in svg  # the legend has it too


def test_weights_that_two_sweeps_hold_are_compared_and_times_are_not(store: LocalStore) -> None:
    """The weights of the second sweep are not in the tables."""
    committed(store, "laptop")
    plan = timing_plan(store, "server")
    for shard in plan.shards:
        made = result(shard.trials)
        later = [replace(timed, milliseconds=[9.0] * len(TURNS)) for timed in made.trials]
        [weight] = later[-1].parameters
        later[-1] = replace(later[-1], parameters=[replace(weight, sha256="another")])
        keys, told = SweepKeys("server"), replace(made, trials=later)
        commit_shard(store, keys, shard.shard_id, "x", told, TIMING_TABLES, where("server"))
    audit = collect(store, stored_plans(store, ["laptop", "server"], EXPERIMENTS)).audit
    assert audit.duplicates == 14
    assert len(audit.differing_duplicates) == len(plan.shards)
    assert all(line.endswith(" in weights") for line in audit.differing_duplicates)


def test_it_is_said_whose_weights_are_not_finite(store: LocalStore) -> None:
    plan = timing_plan(store, networks=["mlp"])
    shard = plan.shards[0]
    broken = [
        replace(
            each, finite=each.trial.configuration.rule != "BP", to_bp=Comparison(False, None, None)
        )
        for each in result(shard.trials).trials
    ]
    made = replace(result(shard.trials), trials=broken)
    commit_shard(store, SweepKeys("a"), shard.shard_id, "first", made, TIMING_TABLES, where("a"))
    text = printed(store, collect(store, [plan]))
    assert text.count("non-finite") == 1
    assert text.count("finite; BP's are not") == 6


def test_of_two_sweeps_one_that_is_unfinished_is_not_hidden_by_the_other(store: LocalStore) -> None:
    committed(store, "done")
    timing_plan(store, "unfinished")
    made = collect(store, stored_plans(store, ["done", "unfinished"], EXPERIMENTS))
    with pytest.raises(IncompleteError):
        require_complete(made)


def test_sweeps_of_two_experiments_are_not_collected_together(store: LocalStore) -> None:
    timing_plan(store, "a")
    commit_all(store, planned(store, ablation(), "b"))
    with pytest.raises(InputError, match=r"a .of the experiment timing. and b .of the experiment"):
        stored_plans(store, ["a", "b"], EXPERIMENTS)


def test_a_commit_with_the_tables_of_another_experiment_is_damaged(store: LocalStore) -> None:
    plan = timing_plan(store)
    shard = plan.shards[0]
    commit(store, plan, shard)
    keys = SweepKeys("a")

    def as_ablation(body: dict[str, Any]) -> dict[str, Any]:
        tables = ("trials", "epochs", "weights")
        files = [
            {**body["files"][0], "table": table, "key": keys.data(shard.shard_id, "first", table)}
            for table in tables
        ]
        return {**body, "files": files}

    rewrite(store, keys.commit(shard.shard_id), as_ablation)
    with pytest.raises(DamagedError, match="holds other trials than the plan's shard"):
        require_complete(collect(store, [plan]))


def test_an_attempt_that_has_other_times_and_the_same_weights_repeats(store: LocalStore) -> None:
    plan = timing_plan(store)
    keys, shard = SweepKeys("a"), plan.shards[0]
    commit(store, plan, shard)
    made = result(shard.trials)
    later = [replace(timed, milliseconds=[9.0] * len(TURNS)) for timed in made.trials]
    slower = replace(made, trials=later, wall_seconds=99.0)
    assert (
        commit_shard(store, keys, shard.shard_id, "late", slower, TIMING_TABLES, where("a"))
        == "lost"
    )
    audit = collect(store, [plan]).audit
    assert (audit.attempts, audit.differing_attempts) == (1, ())


def test_methods_are_told_apart_and_come_cheapest_kind_first(store: LocalStore) -> None:
    found = runs(committed(store).rows("timings"))
    assert [run.network for run in found] == ["mlp", "small-conv"]  # they are equally deep
    assert methods(found) == [
        "BP", "Z-IL", "Fa-Z-IL", "Z-IL, literal", "Fa-Z-IL, literal", "IL, t = 10", "IL, t = 20",
    ]  # fmt: skip


def test_table_4_of_the_paper_stands_beside_what_it_timed(store: LocalStore) -> None:
    """Oracle: the paper's ratios by hand, such as 19.2 / 3.1."""
    rows = {method(row): row for row in runs(committed(store).rows("timings"))[0].rows}
    told = {name: paper(row) for name, row in rows.items()}
    assert told["IL, t = 10"] is told["Z-IL, literal"] is told["Fa-Z-IL, literal"] is None
    ratios = {name: round(found.ratio, 2) for name, found in told.items() if found}
    assert ratios == {"BP": 1.0, "IL, t = 20": 6.19, "Z-IL": 1.16, "Fa-Z-IL": 1.16}
    on_gpu = paper({**rows["IL, t = 20"], "device_kind": "cuda"})
    assert on_gpu is not None
    assert (on_gpu.ms, round(on_gpu.ratio, 1)) == (PAPER_MS["cuda"]["IL"], 15.2)


def test_the_cost_of_one_more_inference_step_is_a_slope(store: LocalStore) -> None:
    run = runs(committed(store).rows("timings"))[0]
    (ten, low), (twenty, high) = by_steps(run)
    assert (ten, twenty) == (10, 20)
    assert cost_of_a_step(run) == pytest.approx((high - low) / 10)
    assert by_steps(runs(committed(store, "b", t=[20]).rows("timings"))[0]) == []


def test_a_person_reads_all_of_it(store: LocalStore) -> None:
    text = printed(store, committed(store, loaders=2))
    for part in (
        "small-conv (4 layers, 0.0 M parameters), batch 2, synthetic images, 5 updates after 2",
        "Z-IL, literal",
        "BP's, bit for bit",
        "ms with loading (2)",
        "The images are synthetic",
        "By depth: time / BP's",
        "By inference steps of IL",
        "report/table4.png",
        "tables/{timings,weights,failures}.parquet",
        "ratio_to_bp_median",
        "-m jobs.query",
        "-m jobs.report",
    ):
        assert part in text, part
    assert "figure3" not in text
    alone = printed(store, committed(store, "one", networks=["mlp"], t=[20], data="imagenet"))
    for part in ("By depth", "By inference steps", "with loading", "synthetic"):
        assert part not in alone, part
    assert "images of ImageNet" in alone


def test_the_figure_is_drawn_and_the_same_rows_give_the_same_file(store: LocalStore) -> None:
    rows = committed(store).rows("timings")
    files = draw_table4(rows)
    assert files["png"].startswith(b"\x89PNG")
    svg = files["svg"].decode()
    for text in ("small-conv", "Fa-Z-IL, literal", "paper, Table 4", "by depth", "inference steps"):
        assert text in svg or text == "by depth", text
    assert draw_table4(rows) == files
    assert draw_table4([]) == {}


def test_equal_weights_are_equal_whatever_the_times_are(store: LocalStore) -> None:
    """`jobs.compare` shows times as ratios, and they decide nothing."""
    changes = {"networks": ["mlp"], "schedules": ["layerwise"], "t": [20]}
    one, two = timing_plan(store, "a", **changes), timing_plan(store, "b", **changes)
    commit(store, one, one.shards[0])
    [shard] = two.shards
    made = result(shard.trials)
    slower = [
        replace(each, milliseconds=[2 * ms for ms in each.milliseconds]) for each in made.trials
    ]
    told = replace(made, trials=slower)
    keys = SweepKeys("b")
    commit_shard(store, keys, shard.shard_id, "first", told, TIMING_TABLES, where("b"))
    done = called("a", "b", "--store", store.url, module="jobs.compare")
    assert (done.code, done.stderr) == (0, "")
    assert "4 equal bit for bit" in done.stdout
    assert "Measured timings.ms_per_update_median" in done.stdout
    assert done.stdout.count("2.000") == 4


def test_every_number_of_the_report_page_comes_from_its_query(store: Store) -> None:
    made = committed(store)
    page = page_of_collected(store, made)
    require_same_answers(store, made, page)
    rows = page.answer("peak_mib").rows
    known = {row["trial_id"]: row for row in made.rows("timings")}
    assert len(rows) == len(known)
    for row in rows:
        assert (method(row), paper(row)) == (
            method(known[row["trial_id"]]),
            paper(known[row["trial_id"]]),
        )
        assert f'data-value="{row["ms_per_update_median"]!r}"' in page.text or (
            f">{ms(row['ms_per_update_median'])}<" in page.text
        )
    assert ">19.2<" in page.text  # what the paper says of IL on a CPU
