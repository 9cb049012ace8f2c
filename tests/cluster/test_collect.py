"""Tests of the collector, over small stores of made-up results (see `builders`)."""

import io
import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from builders import (
    Counting,
    ablation,
    collected,
    commit,
    commit_all,
    flipped,
    flipped_digits,
    l1,
    l2,
    paper_drift,
    planned,
    record_failure,
    rewrite,
    shard_result,
    trial_result,
)
from command_lines import called
from rich.console import Console

from cluster.deletion import doomed
from cluster.results.collect import Collected, collect, stored_plans, write_tables
from cluster.results.reading import list_failures, read_failures
from cluster.sweeps.plan import Plan, Shard, make_plan
from cluster.sweeps.stored import adopt_plan
from jobs.experiments import EXPERIMENTS
from jobs.mnist_ablation.experiment import ABLATION
from jobs.mnist_ablation.panels import n_seeds
from jobs.mnist_ablation.report import print_report
from pcworker.errors import DamagedError, InputError
from pcworker.machine.provenance import code_sha256
from pcworker.store.keys import LONGEST_FOLDER, SweepKeys
from pcworker.store.local import LocalStore
from pcworker.store.tables import FailureRow
from pcworker.trials.configuration import configuration
from pcworker.trials.digests import network_digest
from pcworker.trials.trial import Trial

TRIALS_PER_SEED = 8
FINITE_PER_SEED = 6  # gamma = 10 explodes at t = l and at t = 16


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path)


@pytest.fixture
def plan(store: LocalStore) -> Plan:
    """A plan of at least two shards: one has BP and few steps, one the trials with t = 16."""
    made = planned(store, ablation(epochs=2), "a")
    assert len(made.shards) > 1
    return made


def ids(trials: Any) -> set[str]:
    return {trial.trial_id for trial in trials}


def rows(made: Collected, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = made.tables[name].to_pylist()
    return found


def cell(made: Collected, **wanted: Any) -> dict[str, Any]:
    (found,) = (
        row for row in made.rows("divergence") if all(row[name] == v for name, v in wanted.items())
    )
    return found


def owner_of_bp(plan: Plan) -> Shard:
    return next(s for s in plan.shards if any(t.configuration.rule == "BP" for t in s.trials))


def other_shard(plan: Plan) -> Shard:
    return next(shard for shard in plan.shards if shard is not owner_of_bp(plan))


def printed(made: Collected) -> str:
    sink = io.StringIO()
    print_report(Console(file=sink, width=200), made)
    return sink.getvalue()


# Complete


def test_a_finished_sweep_has_all_its_rows(store: LocalStore, plan: Plan) -> None:
    commit_all(store, plan)
    made = collected(store, "a")
    assert (made.missing, made.damaged) == ((), ())
    assert ids(plan.trials) == {row["trial_id"] for row in rows(made, "trials")}
    counts = {name: part.num_rows for name, part in made.tables.items()}
    assert counts == {
        "trials": TRIALS_PER_SEED,
        "epochs": 2 * TRIALS_PER_SEED,
        "weights": 2 * FINITE_PER_SEED,
        "divergence": len(plan.cells),
        "failures": 0,
    }
    statuses = [row["status"] for row in rows(made, "trials")]
    assert sorted(statuses) == ["done"] * FINITE_PER_SEED + ["nonfinite"] * 2


def test_every_declared_cell_is_a_row_of_divergence(store: LocalStore, plan: Plan) -> None:
    commit_all(store, plan)
    made = [(row["panel"], row["rule"], row["t"], row["gamma"], row["sigma"])
            for row in collected(store, "a").rows("divergence")]  # fmt: skip
    assert made == [
        ("t-gamma", "Z-IL", None, 1.0, 0.0),
        ("t-gamma", "Z-IL", None, 10.0, 0.0),
        ("t-gamma", "IL", 0, 1.0, 0.0),
        ("t-gamma", "IL", 0, 10.0, 0.0),
        ("t-gamma", "IL", 16, 1.0, 0.0),
        ("t-gamma", "IL", 16, 10.0, 0.0),
        ("sigma", "Z-IL", None, 1.0, 0.0),
        ("sigma", "Z-IL", None, 1.0, 0.1),
        ("rule", "Fa-Z-IL", None, 1.0, 0.0),
        ("rule", "BP", None, None, None),
    ]


def test_a_drift_is_the_divergence_that_follows_from_it(store: LocalStore, plan: Plan) -> None:
    """Oracle: the closed forms of a drift that is 1/8 in every weight and every test error."""
    commit_all(store, plan)
    made = cell(collected(store, "a"), panel="t-gamma", t=16, gamma=1.0)
    config = configuration(network="784-2-10", rule="BP")
    assert made["test_error_divergence_mean"] == 12.5
    assert made["weight_divergence_l2_mean"] == l2(config, 0.125)
    assert made["weight_divergence_l1_mean"] == l1(config, 0.125)
    assert made["weight_divergence_maxabs_max"] == 0.125
    assert (made["n_seeds"], made["n_nonfinite"], made["exact"]) == (1, 0, False)


def test_a_cell_is_exact_if_its_weights_have_the_twins_digest(
    store: LocalStore, plan: Plan
) -> None:
    commit_all(store, plan)
    made = collected(store, "a")
    exact = [(row["panel"], row["rule"]) for row in made.rows("divergence") if row["exact"]]
    assert exact == [("t-gamma", "Z-IL"), ("sigma", "Z-IL"), ("rule", "Fa-Z-IL"), ("rule", "BP")]


@pytest.mark.parametrize("layer", [0, 1])
def test_the_smallest_number_is_enough_not_to_be_exact(
    store: LocalStore, plan: Plan, layer: int
) -> None:
    """`exact` does not go by the distance, which is 0 here: the square of that number is 0."""
    for shard in plan.shards:
        made = shard_result(shard.trials, paper_drift)
        for result in made.trials:
            if result.trial.configuration.rule == "Fa-Z-IL":
                result.parameters[layer][0][0, 0] = 1e-45  # it was 0.0
        commit(store, plan, shard, result=made)
    found = cell(collected(store, "a"), rule="Fa-Z-IL")
    assert found["weight_divergence_l2_mean"] == 0.0
    assert found["exact"] is False


def test_a_non_finite_trial_is_a_result(store: LocalStore, plan: Plan) -> None:
    commit_all(store, plan)
    made = collected(store, "a")
    found = cell(made, panel="t-gamma", rule="Z-IL", gamma=10.0)
    assert (found["n_seeds"], found["n_nonfinite"], found["exact"]) == (1, 1, False)
    assert found["test_error_divergence_mean"] is None
    assert made.missing == ()


def test_every_gamma_at_t_0_has_a_cell_with_the_one_trial(store: LocalStore, plan: Plan) -> None:
    commit_all(store, plan)
    made = collected(store, "a")
    one, ten = (cell(made, t=0, gamma=gamma) for gamma in (1.0, 10.0))
    assert one == ten | {"gamma": 1.0}
    assert len(one["trial_ids"]) == 1


def test_the_tables_are_written_where_the_layout_says_and_can_be_queried(
    store: LocalStore, plan: Plan, tmp_path: Path
) -> None:
    commit_all(store, plan)
    made = collected(store, "a")
    write_tables(store, made)
    folder = tmp_path / "sweeps/a/tables"
    assert sorted(path.stem for path in folder.iterdir()) == [
        "divergence", "epochs", "failures", "trials", "weights",
    ]  # fmt: skip
    for path in folder.iterdir():
        metadata = pq.read_schema(path).metadata
        assert metadata[b"schema_version"] == b"1"
        assert metadata[b"code_sha256"] == code_sha256().encode()
    query = f"SELECT rule FROM '{folder}/divergence.parquet' WHERE exact AND panel = 'rule'"
    assert duckdb.sql(query).fetchall() == [("Fa-Z-IL",), ("BP",)]


def test_collecting_again_gives_the_same_tables(store: LocalStore, plan: Plan) -> None:
    commit_all(store, plan)
    first, second = collected(store, "a"), collected(store, "a")
    assert first.tables == second.tables


def test_a_sweep_that_is_not_there_is_refused_by_its_name(store: LocalStore) -> None:
    with pytest.raises(InputError, match="no sweep nowhere") as caught:
        collected(store, "nowhere")
    assert f"{store.url}; check both names" in str(caught.value)


def test_a_wrong_name_is_answered_with_the_names_that_are_there(store: LocalStore) -> None:
    for name in ("one", "two", "one+two", "three"):
        store.put(f"sweeps/{name}/plan.json", b"{}")
    with pytest.raises(InputError, match=r"no sweep tow in .*; it has one, three, two$"):
        collected(store, "tow")
    for number in range(20):
        store.put(f"sweeps/many-{number}/plan.json", b"{}")
    with pytest.raises(InputError, match=r"; it has two, many-0, .* and 15 more$"):
        collected(store, "tow")


# Incomplete


def test_before_anything_is_committed_every_cell_is_there_and_empty(
    store: LocalStore, plan: Plan
) -> None:
    made = collected(store, "a")
    assert ids(made.missing) == ids(plan.trials)
    assert [row["n_seeds"] for row in made.rows("divergence")] == [0] * len(plan.cells)
    assert {len(row["trial_ids"]) for row in made.rows("divergence")} == {1}
    assert made.tables["trials"].num_rows == 0
    assert "missing" in printed(made)


def test_the_trials_of_a_shard_without_a_commit_are_missing(store: LocalStore, plan: Plan) -> None:
    commit(store, plan, owner_of_bp(plan))
    made = collected(store, "a")
    absent = [trial for s in plan.shards if s is not owner_of_bp(plan) for trial in s.trials]
    assert ids(made.missing) == ids(absent)
    for row in made.rows("divergence"):
        assert row["n_seeds"] == (0 if row["t"] == 16 else 1)
    assert f"{len(absent)} trials are missing" in printed(made)


def test_an_attempt_without_a_commit_is_invisible(store: LocalStore, plan: Plan) -> None:
    commit_all(store, plan)
    before = collected(store, "a")
    for shard in plan.shards:
        assert commit(store, plan, shard, lambda trial: 0.5, attempt="late") == "differs"
    assert collected(store, "a").tables == before.tables


def test_an_attempt_that_died_before_its_commit_is_invisible(store: LocalStore, plan: Plan) -> None:
    shard = owner_of_bp(plan)
    commit(store, plan, shard)
    Path(store.describe(SweepKeys("a").commit(shard.shard_id))).unlink()
    assert ids(collected(store, "a").missing) == ids(plan.trials)


# Damage


@pytest.mark.parametrize("table", ["trials", "epochs", "weights"])
@pytest.mark.parametrize("damage", ["removed", "truncated", "flipped"])
def test_a_damaged_file_is_named_and_the_rest_stays_readable(
    store: LocalStore, plan: Plan, table: str, damage: str
) -> None:
    commit_all(store, plan)
    shard = other_shard(plan)
    path = Path(store.describe(SweepKeys("a").data(shard.shard_id, "first", table)))
    data = path.read_bytes()
    if damage == "removed":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(data[:100])
    else:
        path.write_bytes(flipped(data, len(data) // 2))
    made = collected(store, "a")
    (line,) = made.damaged
    assert str(path) in line
    assert ids(made.missing) == ids(shard.trials)
    kept = ids(plan.trials) - ids(shard.trials)
    assert {row["trial_id"] for row in rows(made, "trials")} == kept
    assert {row["trial_id"] for row in rows(made, "epochs")} == kept
    assert str(path) in printed(made).replace("\n", "")


Body = dict[str, Any]
Change = Callable[[Body], Body]


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_commit_is_named_and_the_rest_stays_readable(
    store: LocalStore, plan: Plan, damage: str
) -> None:
    commit_all(store, plan)
    shard = other_shard(plan)
    key = SweepKeys("a").commit(shard.shard_id)
    data = store.get(key) or b""
    digits = [*flipped_digits(data)]
    store.put(key, data[:-10] if damage == "truncated" else digits[len(digits) // 2])
    assert_damaged(store, plan, shard, key)


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body | {"trial_ids": body["trial_ids"][1:]},
        lambda body: body | {"trial_ids": ["0" * 16, *body["trial_ids"][1:]]},
        lambda body: body | {"trial_ids": [*body["trial_ids"], body["trial_ids"][0]]},
        lambda body: body | {"files": body["files"][1:]},
        lambda body: body | {"files": [{**body["files"][0], "table": "x"}, *body["files"][1:]]},
    ],
    ids=["trial-missing", "another-trial", "trial-twice", "table-missing", "another-table"],
)
def test_a_commit_of_other_trials_or_tables_is_damaged_even_if_its_sha256_fits(
    store: LocalStore, plan: Plan, change: Change
) -> None:
    commit_all(store, plan)
    shard = other_shard(plan)
    key = SweepKeys("a").commit(shard.shard_id)
    rewrite(store, key, change)
    assert_damaged(store, plan, shard, key)


def assert_damaged(store: LocalStore, plan: Plan, shard: Shard, key: str) -> None:
    """Checks that `key` is named, that the shard's trials are missing and all others are there."""
    made = collected(store, "a")
    (line,) = made.damaged
    assert store.describe(key) in line
    assert ids(made.missing) == ids(shard.trials)
    kept = ids(plan.trials) - ids(shard.trials)
    assert {row["trial_id"] for row in rows(made, "trials")} == kept


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body | {"twins": {}},
        lambda body: body | {"twins": {twin: [] for twin in body["twins"]}},
    ],
    ids=["no-twin", "no-digest"],
)
def test_a_commit_without_its_twins_is_damaged(
    store: LocalStore, plan: Plan, change: Change
) -> None:
    commit_all(store, plan)
    shard = owner_of_bp(plan)
    key = SweepKeys("a").commit(shard.shard_id)
    rewrite(store, key, change)
    assert_damaged(store, plan, shard, key)


def test_a_damaged_plan_is_an_error_that_names_it(store: LocalStore, plan: Plan) -> None:
    store.put(SweepKeys("a").plan, b"{")
    with pytest.raises(DamagedError, match=r"plan\.json is damaged"):
        collected(store, "a")


# Several sweeps


def test_the_plan_that_was_asked_for_is_reported_over_the_shards_that_are_stored(
    store: LocalStore,
) -> None:
    """At t = 0 all gammas share one trial. So gamma = 5, which no plan declared, needs no run."""
    commit_all(store, planned(store, ablation(t=[0], gamma=[1.0, 10.0]), "a"))
    asked = adopt_plan(store, make_plan(ABLATION, ablation(t=[0], gamma=[1.0, 5.0]), "a"))
    made = collect(store, [asked])
    assert made.missing == ()
    assert [(r["gamma"], r["n_seeds"]) for r in made.rows("divergence") if r["t"] == 0] == [
        (1.0, 1), (5.0, 1),
    ]  # fmt: skip


def test_a_sweep_that_is_named_twice_counts_once(store: LocalStore, plan: Plan) -> None:
    commit_all(store, plan)
    assert [plan.name for plan in stored_plans(store, ["a", "a"], EXPERIMENTS)] == ["a"]
    once, twice = collected(store, "a"), collected(store, "a", "a")
    assert twice.tables == once.tables
    assert (twice.audit, twice.keys.root) == (once.audit, "sweeps/a")


def test_two_sweeps_together_join_their_seeds(store: LocalStore) -> None:
    """Oracle: the mean and the sample sd of 12.5 and 25 points, by hand: drifts of 1/8 and 1/4."""
    one, other = (planned(store, ablation(seeds=[k]), name) for k, name in ((1, "A"), (2, "B")))
    commit_all(store, one, paper_drift)
    commit_all(store, other, lambda trial: (paper_drift(trial) or 0.0) * 2)
    made = collected(store, "A", "B")
    assert made.missing == ()
    assert len(made.rows("divergence")) == len(one.cells)
    assert {row["n_seeds"] for row in made.rows("divergence")} == {2}
    assert {len(row["trial_ids"]) for row in made.rows("divergence")} == {2}
    found = cell(made, t=16, gamma=1.0)
    assert found["test_error_divergence_mean"] == 18.75
    assert found["test_error_divergence_sd"] == pytest.approx(12.5 / 2**0.5, rel=1e-12)
    assert found["trial_ids"] == [
        Trial(configuration(network="784-2-10", rule="IL", t=16), seed).trial_id for seed in (1, 2)
    ]
    exploded = cell(made, t=16, gamma=10.0)
    assert (exploded["n_seeds"], exploded["n_nonfinite"]) == (2, 1)
    assert n_seeds(made.rows("divergence")) == 2


def test_two_sweeps_together_have_a_folder_of_their_own(store: LocalStore, tmp_path: Path) -> None:
    for seed, name in ((1, "A"), (2, "B")):
        commit_all(store, planned(store, ablation(seeds=[seed]), name))
    write_tables(store, collected(store, "A", "B"))
    written = sorted(path.name for path in (tmp_path / "sweeps").glob("*/tables"))
    assert written == ["tables"]
    trials = pq.read_table(tmp_path / "sweeps/A+B/tables/trials.parquet")
    assert set(trials["sweep"].to_pylist()) == {"A", "B"}
    assert trials.num_rows == 2 * TRIALS_PER_SEED


def test_sweeps_of_any_number_have_a_folder_whose_name_is_short(
    store: LocalStore, tmp_path: Path
) -> None:
    names = [f"mnist-of-the-seed-{seed}" for seed in range(10, 30)]
    for seed, name in enumerate(names):
        commit_all(store, planned(store, ablation(seeds=[seed], rules=["BP"]), name))
    done = called("--store", store.url, "--sweep", ",".join(names), module="jobs.collect")
    assert (done.code, done.stderr) == (0, "")
    assert f" --sweep {','.join(names)} --open\n" in done.stdout
    [folder] = {path.parents[1] for path in tmp_path.glob("sweeps/*/tables/*")}
    assert folder.name.startswith(f"{names[0]}+19-more-")
    assert SweepKeys(*names).root == f"sweeps/{folder.name}"
    assert SweepKeys(*folder.name.split("+")).root == f"sweeps/{folder.name}"
    assert SweepKeys(*names[:-1], "another").root != f"sweeps/{folder.name}"
    assert pq.read_table(folder / "tables/trials.parquet").num_rows == 20


@pytest.mark.parametrize("length", [LONGEST_FOLDER, LONGEST_FOLDER + 1])
def test_a_name_that_fits_is_not_shortened(length: int) -> None:
    names = ["a" * 100, "b" * 100, "c" * (length - 202)]
    name = SweepKeys(*names).root.removeprefix("sweeps/")
    assert (name == "+".join(names)) == (length <= LONGEST_FOLDER)
    assert len(name) <= LONGEST_FOLDER


def test_names_are_checked_before_anything_is_read(store: LocalStore, plan: Plan) -> None:
    counting = Counting(store.root)
    with pytest.raises(InputError, match="sweep name 'x/y'"):
        stored_plans(counting, ["a", "x/y"], EXPERIMENTS)
    assert counting.read == []


def test_a_sweep_of_several_seeds_equals_the_sweeps_of_each_together(store: LocalStore) -> None:
    commit_all(store, planned(store, ablation(seeds=[1, 2]), "both"))
    for seed, name in ((1, "A"), (2, "B")):
        commit_all(store, planned(store, ablation(seeds=[seed]), name))
    assert collected(store, "both").rows("divergence") == collected(store, "A", "B").rows(
        "divergence"
    )


def test_a_trial_that_two_sweeps_hold_counts_once(store: LocalStore) -> None:
    commit_all(store, planned(store, ablation(seeds=[1]), "A"))
    commit_all(store, planned(store, ablation(seeds=[1, 2]), "B"))
    made = collected(store, "A", "B")
    for name, per_seed in (("trials", TRIALS_PER_SEED), ("epochs", TRIALS_PER_SEED),
                           ("weights", 2 * FINITE_PER_SEED)):  # fmt: skip
        assert made.tables[name].num_rows == 2 * per_seed
    assert {row["n_seeds"] for row in made.rows("divergence")} == {2}
    assert {row["sweep"] for row in rows(made, "trials") if row["seed"] == 1} == {"A"}


def test_what_is_damaged_in_one_sweep_is_taken_from_the_other(store: LocalStore) -> None:
    for name in ("A", "B"):
        commit_all(store, planned(store, ablation(), name))
    for key in store.list("sweeps/A/shards/"):
        if key.endswith("weights.parquet"):
            store.put(key, b"")
    made = collected(store, "A", "B")
    assert made.missing == ()
    assert len(made.damaged) >= 2
    assert {row["sweep"] for row in rows(made, "trials")} == {"B"}


# The audit


def test_every_copy_of_a_twin_is_compared_with_its_owner(store: LocalStore, plan: Plan) -> None:
    commit_all(store, plan)
    audit = collected(store, "a").audit
    assert (audit.copies, audit.differing_copies) == (len(plan.shards) - 1, ())


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_copy_that_differs_after_any_epoch_is_found_and_its_shards_are_named(
    store: LocalStore, plan: Plan, epoch: int
) -> None:
    owner, other = owner_of_bp(plan), other_shard(plan)
    commit(store, plan, owner, hostname="one")
    made = shard_result(other.trials, paper_drift)
    ((twin, digests),) = made.twins.items()
    changed = [*digests[:epoch], "another", *digests[epoch + 1 :]]
    told = replace(made, twins={twin: changed})
    commit(store, plan, other, result=told, hostname="two", device="a gpu")
    audit = collected(store, "a").audit
    (line,) = audit.differing_copies
    assert audit.copies == 1
    for named in (twin, owner.shard_id, other.shard_id, "one", "two", "a gpu"):
        assert named in line
    assert "1 differ" in printed(collected(store, "a"))


def test_without_the_owner_there_is_nothing_to_compare(store: LocalStore, plan: Plan) -> None:
    commit(store, plan, other_shard(plan))
    assert collected(store, "a").audit.copies == 0


def test_two_sweeps_with_the_same_bp_trial_audit_each_other(store: LocalStore) -> None:
    for name in ("A", "B"):
        made = planned(store, ablation(rules=["BP"]), name)
        trials = made.shards[0].trials
        told = shard_result(trials)
        digests = {twin: [name] for twin in told.twins}
        commit(store, made, made.shards[0], result=replace(told, twins=digests))
    audit = collected(store, "A", "B").audit
    assert (audit.copies, len(audit.differing_copies)) == (1, 1)


def repeat(store: LocalStore, plan: Plan, shard: Shard, attempt: str, **host: Any) -> None:
    """Adds another attempt of a shard, with the same results."""
    assert commit(store, plan, shard, attempt=attempt, **host) == "lost"


def test_every_attempt_that_trained_to_its_end_is_compared_with_the_commit(
    store: LocalStore, plan: Plan
) -> None:
    commit_all(store, plan)
    owner, other = owner_of_bp(plan), other_shard(plan)
    for shard, attempt in ((owner, "second"), (owner, "third"), (other, "second")):
        repeat(store, plan, shard, attempt)
    audit = collected(store, "a").audit
    assert (audit.attempts, audit.shards, audit.differing_attempts) == (3, 2, ())
    assert "; 3 repeated attempts of 2 shards, all bit-identical." in printed(collected(store, "a"))


def test_an_attempt_that_died_before_its_commit_is_compared_too(
    store: LocalStore, plan: Plan
) -> None:
    """The second attempt made the commit. The first one only left its files."""
    shard = owner_of_bp(plan)
    commit(store, plan, shard, lambda trial: 0.5, "died", hostname="one", device="a gpu")
    store.delete(SweepKeys("a").commit(shard.shard_id))
    assert collected(store, "a").audit.attempts == 0
    commit(store, plan, shard, attempt="second", hostname="two", device="a cpu")
    made = collected(store, "a")
    (line,) = made.audit.differing_attempts
    for named in (shard.shard_id, "died", "one, a gpu", "second", "two, a cpu"):
        assert named in line
    assert made.audit.attempts == 1
    text = printed(made)
    assert "Determinism audit: 1 repeated attempts of 1 shards, 1 differ." in text
    assert line in text


def test_an_attempt_that_left_nothing_readable_is_no_evidence(
    store: LocalStore, plan: Plan
) -> None:
    commit_all(store, plan)
    shard = owner_of_bp(plan)
    repeat(store, plan, shard, "second")
    store.put(SweepKeys("a").attempt(shard.shard_id, "second"), b"{")
    store.put(SweepKeys("a").data(shard.shard_id, "killed", "trials"), b"half")
    made = collected(store, "a")
    assert (made.audit.attempts, made.damaged) == (0, ())


def test_attempts_of_two_sweeps_are_told_apart(store: LocalStore) -> None:
    """Equal trials have equal shard ids; an attempt belongs to the sweep in whose folder it is."""
    for name in ("A", "B"):
        commit_all(store, planned(store, ablation(), name))
    plan = stored_plans(store, ["B"], EXPERIMENTS)[0]
    repeat(store, plan, owner_of_bp(plan), "second")
    audits = {names: collected(store, *names).audit for names in (("A",), ("B",), ("A", "B"))}
    assert [audit.attempts for audit in audits.values()] == [0, 1, 1]


def test_the_audit_reads_only_attempts_beside_the_committed_ones(
    store: LocalStore, plan: Plan
) -> None:
    commit_all(store, plan)
    shard = owner_of_bp(plan)
    repeat(store, plan, shard, "second")
    counting = Counting(store.root)
    collected(counting, "a")
    attempts = [key for key in counting.read if key.endswith("attempt.json")]
    assert attempts == [SweepKeys("a").attempt(shard.shard_id, "second")]
    assert len(counting.read) == len(set(counting.read))


def test_packing_is_counted_in_trials(store: LocalStore, plan: Plan) -> None:
    owner, other = owner_of_bp(plan), other_shard(plan)
    for shard, packing in ((owner, "alone"), (other, "irreproducible")):
        told = replace(shard_result(shard.trials, paper_drift), packing=packing)
        commit(store, plan, shard, result=told)
    made = collected(store, "a")
    assert (made.alone, made.not_invariant) == (len(owner.trials), len(other.trials))
    assert f"{len(owner.trials)} trials ran one by one" in printed(made)


# Failures


def test_a_quarantined_shards_trials_are_failed_and_its_record_is_a_row(
    store: LocalStore, plan: Plan
) -> None:
    shard = other_shard(plan)
    commit(store, plan, owner_of_bp(plan))
    record_failure(store, plan, shard)
    made = collected(store, "a")
    failed = [row for row in rows(made, "trials") if row["status"] == "failed"]
    assert {row["trial_id"] for row in failed} == ids(shard.trials)
    for row in failed:
        assert (row["sweep"], row["shard_id"], row["rule"], row["t"]) == (
            "a", shard.shard_id, "IL", 16,
        )  # fmt: skip
        assert row["attempt_id"] is row["final_test_error"] is row["wall_seconds"] is None
    (record,) = rows(made, "failures")
    assert (record["kind"], record["quarantined"]) == ("error", True)
    assert record["traceback"] == "Traceback ...\nValueError: no"
    assert set(record["trial_ids"]) == ids(shard.trials)
    assert ids(made.missing) >= ids(shard.trials)
    assert cell(made, t=16, gamma=1.0)["n_seeds"] == 0


def test_a_failure_that_will_be_tried_again_is_a_record_but_no_failed_trial(
    store: LocalStore, plan: Plan
) -> None:
    record_failure(store, plan, other_shard(plan), quarantined=False)
    made = collected(store, "a")
    assert [row["quarantined"] for row in rows(made, "failures")] == [False]
    assert made.tables["trials"].num_rows == 0


def test_a_shard_that_was_committed_after_its_quarantine_is_done(
    store: LocalStore, plan: Plan
) -> None:
    record_failure(store, plan, other_shard(plan))
    commit_all(store, plan)
    made = collected(store, "a")
    assert "failed" not in {row["status"] for row in rows(made, "trials")}
    assert made.tables["trials"].num_rows == TRIALS_PER_SEED
    assert made.tables["failures"].num_rows == 1


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff\xfe"])
def test_a_damaged_failure_record_is_named_and_the_others_are_read(
    store: LocalStore, plan: Plan, data: bytes
) -> None:
    commit_all(store, plan)
    record_failure(store, plan, other_shard(plan))
    key = SweepKeys("a").failure(owner_of_bp(plan).shard_id, "y")
    store.put(key, data)
    made = collected(store, "a")
    (line,) = made.damaged
    assert store.describe(key) in line
    assert made.tables["failures"].num_rows == 1
    assert made.tables["trials"].num_rows == TRIALS_PER_SEED


FOREIGN = (
    *("README", "notes.txt", "x.json", "notes/x.json", "{shard}.json/x.json", "{shard}/notes.txt"),
    *("{shard}/x y.json", "{shard}/._x.json", "{shard}/x.json.bak", "{shard}/more/x.json"),
)
"""Files that others may put into the folder `failures`."""


def test_foreign_files_beside_failure_records_are_neither_read_nor_deleted(
    store: LocalStore, plan: Plan
) -> None:
    commit_all(store, plan)
    record_failure(store, plan, other_shard(plan), quarantined=False)
    shard = other_shard(plan).shard_id
    foreign = [plan.keys.failures + name.format(shard=shard) for name in FOREIGN]
    for key in foreign:
        store.put(key, b"not a record")
    for module in ("jobs.collect", "jobs.status"):
        done = called("--store", store.url, "--sweep", "a", module=module)
        assert (done.code, done.stderr) == (0, ""), module
    assert collected(store, "a").tables["failures"].num_rows == 1
    hidden = plan.keys.failures + f"{shard}/._x.json"
    assert {*doomed(store, "a", EXPERIMENTS).foreign} == {*foreign} - {hidden}


def test_another_digit_anywhere_in_a_failure_record_is_noticed(
    store: LocalStore, plan: Plan
) -> None:
    path = Path(store.describe(record_failure(store, plan, other_shard(plan))))
    for data in flipped_digits(path.read_bytes()):
        path.write_bytes(data)
        rows_read, (line,) = read_failures(store, list_failures(store, plan))
        assert rows_read == []
        assert str(path) in line


@pytest.mark.parametrize("name", [field.name for field in fields(FailureRow)])
def test_a_failure_record_that_lacks_a_column_is_damaged(
    store: LocalStore, plan: Plan, name: str
) -> None:
    commit_all(store, plan)
    key = record_failure(store, plan, other_shard(plan))
    rewrite(store, key, lambda body: {k: v for k, v in body.items() if k != name})
    made = collected(store, "a")
    (line,) = made.damaged
    assert store.describe(key) in line
    assert made.tables["failures"].num_rows == 0
    assert made.tables["trials"].num_rows == TRIALS_PER_SEED


@pytest.mark.parametrize(
    "changes",
    [
        *({"quarantined": 1}, {"kind": 2}, {"trial_ids": [1]}),
        *({"attempt_id": "y"}, {"attempt_id": "../x"}, {"shard_id": "0009-abcdef01"}),
    ],
)
def test_a_failure_record_that_is_no_row_is_damaged_even_if_its_sha256_fits(
    store: LocalStore, plan: Plan, changes: Body
) -> None:
    key = record_failure(store, plan, other_shard(plan))
    rewrite(store, key, lambda body: body | changes)
    made = collected(store, "a")
    (line,) = made.damaged
    assert store.describe(key) in line
    assert made.tables["failures"].num_rows == 0


def test_what_a_later_version_adds_to_a_failure_record_is_ignored(
    store: LocalStore, plan: Plan
) -> None:
    key = record_failure(store, plan, other_shard(plan))
    rewrite(store, key, lambda body: body | {"more": 1})
    assert len(read_failures(store, [key])[0]) == 1


def test_a_byte_that_is_no_text_in_an_error_is_escaped(store: LocalStore, plan: Plan) -> None:
    """Python reads such a byte, of a file's name for instance, as half a surrogate pair."""
    commit_all(store, plan)
    record_failure(store, plan, other_shard(plan), error="no \udcff here", traceback="\udcff")
    made = collected(store, "a")
    assert made.damaged == ()
    (row,) = rows(made, "failures")
    assert (row["error"], row["traceback"]) == (r"no \udcff here", r"\udcff")


# What is printed


def test_the_report_says_with_which_t_d_and_horizon_fa_z_il_was_run(store: LocalStore) -> None:
    """Two joined sweeps may differ in t_d only, and their lines must not look the same."""
    for t_d in (1, 4):
        commit_all(store, planned(store, ablation(t_d=t_d, horizon=3), f"t_d-{t_d}"))
    text = printed(collected(store, "t_d-1", "t_d-4"))
    assert "Fa-Z-IL (t_d 1, T 3, literal)" in text
    assert "Fa-Z-IL (t_d 4, T 3, literal)" in text


def test_a_mean_over_fewer_seeds_is_marked(store: LocalStore) -> None:
    plan = planned(store, ablation(seeds=[1, 2], t=[None, 0]), "a")
    for shard in plan.shards:
        if {trial.seed for trial in shard.trials} == {1}:
            commit(store, plan, shard)
    more = planned(store, ablation(seeds=[2], rules=["BP"]), "b")
    commit_all(store, more)
    made = collected(store, "a", "b")
    assert cell(made, rule="BP")["n_seeds"] == 2
    assert "0.0*" in printed(made)


def test_the_report_says_what_exploded_and_what_was_audited(store: LocalStore, plan: Plan) -> None:
    commit_all(store, plan)
    text = printed(collected(store, "a"))
    assert "non-finite" in text
    assert "mean over 1 seed" in text
    assert f"{len(plan.shards) - 1} copies of BP twins compared, all bit-identical" in text


def test_a_trial_with_biases_can_be_exact(store: LocalStore) -> None:
    """A network's digest has a layer's weight before its bias. Rows have them in another order."""
    plan = planned(store, ablation(rules=["BP"], bias=True), "a")
    ((trial,),) = (shard.trials for shard in plan.shards)
    result = trial_result(trial)
    biased = [[weight, weight[:, 0].copy()] for (weight,) in result.parameters]
    made = shard_result([trial])
    told = replace(
        made,
        trials=[replace(result, parameters=biased)],
        twins={trial.trial_id: [network_digest(biased)]},
    )
    commit(store, plan, plan.shards[0], result=told)
    assert cell(collected(store, "a"), rule="BP")["exact"] is True


def test_every_table_says_what_made_it(store: LocalStore, plan: Plan) -> None:
    commit_all(store, plan)
    for name, rows in collected(store, plan.name).tables.items():
        said = {key.decode(): value.decode() for key, value in rows.schema.metadata.items()}
        made_by = json.loads(said["provenance"])
        assert said["code_sha256"] == made_by["code_sha256"], name
        assert made_by["versions"].keys() == {"python", "numpy", "pyarrow", "ray", "torch"}
        assert made_by["command"][0] == "python"
