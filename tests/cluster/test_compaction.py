"""Tests of compactions: what many commits hold is kept in few files, and nothing is lost with them.

Oracle: the tables of a collector that finds the same commits and no compaction.
"""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import Counting, ablation, commit, commit_all, flipped, paper_drift, planned, rewrite
from many_commits import ATTEMPT, NAME, TRIALS, Unsynced, commit_many, plan_of_many
from tables import equal_tables

from cluster.deletion import in_stages
from cluster.results import tables as results_tables
from cluster.results.collect import Collected, collect, write_tables
from cluster.results.committed import read_committed
from cluster.results.compaction import spool
from cluster.results.compaction.choice import FEWEST, compaction_id, counting, listing_of, litter
from cluster.results.compaction.entries import COMMITS
from cluster.results.needed import only
from cluster.results.tables import cuts
from cluster.sweeps.plan import Plan
from jobs.experiments import EXPERIMENTS
from pcworker.errors import InputError
from pcworker.store.keys import SweepKeys
from pcworker.store.local import LocalStore
from pcworker.store.tables import EpochRow, WeightRow

KEYS = SweepKeys(NAME)
MANY = FEWEST + 10
"""More commits than are read one by one."""
A, B, C = (f"{k:04d}-{k:08x}" for k in range(3))


class Store(Unsynced, Counting):
    """A store that notes what is read, and does not wait for the disk."""


NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


# Which compacted commits count


def test_a_shard_counts_once_in_the_first_compaction_that_holds_its_current_attempt() -> None:
    compactions = [[(A, "x"), (B, "x")], [(B, "y"), (A, "x"), (C, "x")]]
    assert counting(compactions, {A: "x", B: "y", C: "x"}) == [[0], [0, 2]]
    assert counting(compactions, {A: "x"}) == [[0], []]
    assert counting([], {A: "x"}) == []


def test_the_keys_tell_the_committed_attempt_where_only_one_has_left_anything() -> None:
    keys = [
        KEYS.commit(A), KEYS.data(A, "x", "trials"), KEYS.attempt(A, "x"),
        KEYS.commit(B), KEYS.attempt(B, "x"), KEYS.data(B, "y", "trials"),
        KEYS.attempt(C, "x"), "sweeps/many/shards/README",
    ]  # fmt: skip
    listing = listing_of(KEYS, keys)
    assert listing.committed == {A, B}
    assert listing.sure == {A: "x"}
    assert [(shard, attempt) for shard, attempt, _ in listing.ended] == [
        (A, "x"),
        (B, "x"),
        (C, "x"),
    ]


def test_only_old_files_without_a_record_are_litter() -> None:
    old, new = (
        compaction_id(NOW.replace(day=1, hour=3, minute=0), "0" * 8),
        compaction_id(NOW, "1" * 8),
    )
    done = compaction_id(NOW.replace(year=2025), "2" * 8)
    keys = [
        *(KEYS.compacted(each, "trials") for each in (old, new, done)),
        KEYS.compaction(done),
        KEYS.compactions + "notes.txt",
    ]
    assert litter(KEYS, keys, NOW) == [KEYS.compacted(old, "trials")]


# In a store


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_of_many(MANY)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory, plan: Plan) -> LocalStore:
    """All commits and no compaction. Tests only read it."""
    store = Unsynced(tmp_path_factory.mktemp("bare"))
    commit_many(store, plan, plan.shards)
    return store


@pytest.fixture(scope="module")
def whole(bare: LocalStore, plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> LocalStore:
    """The same after a collector. Tests only read it."""
    store = Unsynced(shutil.copytree(bare.root, tmp_path_factory.mktemp("whole") / "store"))
    collect(store, [plan])
    return store


@pytest.fixture
def store(whole: LocalStore, tmp_path: Path) -> Store:
    """A copy of the compacted store, which notes what is read."""
    return Store(shutil.copytree(whole.root, tmp_path / "store"))


@pytest.fixture(scope="module")
def alone(bare: LocalStore, plan: Plan, tmp_path_factory: pytest.TempPathFactory) -> Mapping:
    """The tables by a collector that leaves no compaction."""
    store = Unsynced(shutil.copytree(bare.root, tmp_path_factory.mktemp("alone") / "store"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cluster.results.compaction.gather.FEWEST", MANY + 1)
        made = collect(store, [plan])
        assert store.list(KEYS.compactions) == []
        return dict(made.tables)


def assert_whole(made: Collected, alone: Mapping[str, pa.Table]) -> None:
    """Checks that the tables are those of all commits, in the same order."""
    assert (made.damaged, made.missing, made.audit.differing) == ((), (), ())
    for name, table in made.tables.items():
        assert table.equals(alone[name]), name


def of_shards(keys: list[str]) -> list[str]:
    return [key for key in keys if key.startswith(KEYS.shards)]


def test_a_second_collector_reads_no_shard(store: Store, plan: Plan, alone: Mapping) -> None:
    names = sorted(Path(key).name for key in store.list(KEYS.compactions))
    record = [name for name in names if name.endswith(".json")]
    assert names == sorted(["epochs.parquet", f"{COMMITS}.parquet", "trials.parquet",
                            "weights.parquet", *record])  # fmt: skip
    assert len(record) == 1
    assert_whole(collect(store, [plan]), alone)
    assert of_shards(store.read) == []


def test_of_a_compaction_only_what_is_needed_is_fetched(
    store: Store, plan: Plan, alone: Mapping
) -> None:
    columns = ["trial_id", "epoch", "test_error"]
    needed = only(plan.experiment.tables, {"epochs": columns[1:]})
    store.read.clear()
    found = pa.concat_tables(read_committed(store, [plan], needed).rows("epochs", columns=columns))
    assert found.equals(alone["epochs"].select(columns).replace_schema_metadata(None))
    assert {Path(key).stem for key in store.read if key.endswith(".parquet")} == {
        "epochs",
        COMMITS,
    }
    assert of_shards(store.read) == []


def test_columns_that_no_table_has_cannot_be_needed(plan: Plan) -> None:
    for table, columns in (("epochs", ["test_eror"]), ("epoch", ["test_error"]), ("epoch", [])):
        with pytest.raises(ValueError, match=f"no table {table} with"):
            only(plan.experiment.tables, {table: columns})


def test_every_cell_is_exact(alone: Mapping) -> None:
    """Oracle: in each shard all trials have the weights of the twin."""
    assert alone["divergence"]["exact"].to_pylist() == [True] * TRIALS
    assert alone["divergence"]["n_seeds"].to_pylist() == [MANY] * TRIALS


def test_a_collector_reads_only_what_is_new(
    bare: LocalStore, plan: Plan, alone: Mapping, tmp_path: Path
) -> None:
    """The shards in the middle of the plan come late, so their rows stand between others."""
    store, late = Store(tmp_path), plan.shards[40:45]
    commit_many(store, plan, [each for each in plan.shards if each not in late])
    assert len(collect(store, [plan]).missing) == len(late) * TRIALS
    commit_many(store, plan, late)
    store.read.clear()
    assert_whole(collect(store, [plan]), alone)
    assert {key.split("/")[3] for key in of_shards(store.read)} == {each.shard_id for each in late}


@pytest.mark.parametrize("most", [7, 60])
def test_how_commits_are_divided_into_compactions_changes_nothing(
    bare: LocalStore, plan: Plan, alone: Mapping, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, most: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(spool, "FULL_COMMITS", most)
    store = Store(shutil.copytree(bare.root, tmp_path / "store"))
    assert_whole(collect(store, [plan]), alone)
    records = [key for key in store.list(KEYS.compactions) if key.endswith(".json")]
    assert len(records) == -(-MANY // most)
    store.read.clear()
    assert_whole(collect(store, [plan]), alone)
    assert of_shards(store.read) == []


@pytest.mark.parametrize("damage", ["removed", "flipped"])
@pytest.mark.parametrize(
    "name", ["trials.parquet", "weights.parquet", f"{COMMITS}.parquet", ".json"]
)
def test_nothing_is_lost_with_a_compaction(
    store: Store, plan: Plan, alone: Mapping, name: str, damage: str
) -> None:
    [key] = [key for key in store.list(KEYS.compactions) if key.endswith(name)]
    data = store.get(key) or b""
    if damage == "removed":
        store.delete(key)
    else:
        store.put(key, flipped(data, len(data) // 2))
    assert_whole(collect(store, [plan]), alone)
    store.read.clear()
    assert_whole(collect(store, [plan]), alone)  # it was compacted anew
    assert of_shards(store.read) == []


def test_a_record_that_names_the_files_of_another_sweep_does_not_count(
    store: Store, plan: Plan, alone: Mapping
) -> None:
    [key] = [key for key in store.list(KEYS.compactions) if key.endswith(".json")]
    rewrite(store, key, lambda body: body | {
        "files": [{**each, "key": "sweeps/other/x"} for each in body["files"]]
    })  # fmt: skip
    assert_whole(collect(store, [plan]), alone)


def test_entries_of_trials_that_the_plan_has_not_do_not_count(
    store: Store, plan: Plan, alone: Mapping
) -> None:
    """A plan in which two shards have each other's ids: the compaction is of no use to it."""
    first, second, *others = plan.shards
    swapped = (replace(first, trials=second.trials), replace(second, trials=first.trials))
    made = collect(store, [replace(plan, shards=(*swapped, *others))])
    assert len(made.damaged) == 2
    assert set(made.missing) == {*first.trials, *second.trials}


def test_a_commit_that_was_made_anew_is_read_anew(store: Store, plan: Plan) -> None:
    """The old attempt's files are still there, and the compaction holds them."""
    shard = plan.shards[3]
    store.delete(KEYS.commit(shard.shard_id))
    assert commit(store, plan, shard, lambda trial: 0.5, attempt="second") == "committed"
    made = collect(store, [plan])
    rows = [row for row in made.rows("trials") if row["shard_id"] == shard.shard_id]
    assert {row["attempt_id"] for row in rows} == {"second"}
    assert len(rows) == TRIALS
    [line] = made.audit.differing_attempts
    assert f"attempt {ATTEMPT} " in line
    assert made.tables["trials"].num_rows == MANY * TRIALS


def test_a_commit_that_was_deleted_does_not_count(store: Store, plan: Plan) -> None:
    shard = plan.shards[3]
    store.delete(KEYS.commit(shard.shard_id))
    made = collect(store, [plan])
    assert {t.trial_id for t in made.missing} == {t.trial_id for t in shard.trials}
    assert shard.shard_id not in made.tables["trials"]["shard_id"].to_pylist()


def test_repeated_attempts_are_compared_with_a_compacted_commit(store: Store, plan: Plan) -> None:
    shard = plan.shards[3]
    assert commit(store, plan, shard, lambda trial: 0.5, attempt="late") == "differs"
    store.read.clear()
    audit = collect(store, [plan]).audit
    assert (audit.attempts, audit.shards, len(audit.differing_attempts)) == (1, 1, 1)
    expected = {KEYS.commit(shard.shard_id), KEYS.attempt(shard.shard_id, "late")}
    assert set(of_shards(store.read)) == expected


def test_all_of_a_compacted_sweep_is_its_own_and_goes_with_it(store: Store, plan: Plan) -> None:
    write_tables(store, collect(store, [plan]))
    stages, foreign = in_stages(KEYS, store.list(KEYS.folder), EXPERIMENTS.values())
    assert foreign == ()
    assert {key for keys in stages for key in keys} == set(store.list(KEYS.folder))


def test_what_a_killed_collector_has_left_is_deleted_when_it_is_old(
    store: Store, plan: Plan, alone: Mapping
) -> None:
    before = store.list(KEYS.compactions)
    old = KEYS.compacted("20200101000000-0123abcd", "weights")
    new = KEYS.compacted("99990101000000-0123abcd", "weights")
    for key in (old, new):
        store.put(key, b"half")
    assert_whole(collect(store, [plan]), alone)
    assert store.list(KEYS.compactions) == sorted([*before, new])


def test_few_commits_stay_as_they_are(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    plan = planned(store, ablation(), "a")
    commit_all(store, plan, paper_drift)
    collect(store, [plan])
    assert store.list(plan.keys.compactions) == []


def test_a_folder_for_temporary_files_that_cannot_be_used_is_named(
    store: Store, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/proc/nowhere")
    with pytest.raises(InputError, match=r"/proc/nowhere: No such file .* set TMPDIR"):
        collect(store, [plan])


# Large tables


def test_a_large_table_is_a_folder_of_sorted_parts_with_the_same_rows(
    store: Store, plan: Plan, alone: Mapping, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results_tables, "LARGE_BYTES", 100_000)
    made = collect(store, [plan])
    write_tables(store, made)
    for name in ("trials", "weights"):
        assert made.tables.is_large(name)
        folder = store.root / KEYS.tables / name
        parts = sorted(folder.iterdir())
        assert [part.name for part in parts[:2]] == ["part-0000.parquet", "part-0001.parquet"]
        for part in parts:
            ids = pq.read_table(part)["trial_id"].to_pylist()
            assert ids == sorted(ids)
            assert pq.read_schema(part).metadata[b"missing"] == b"0"
            statistics = pq.read_metadata(part).row_group(0).column(0).statistics
            assert (statistics.min, statistics.max) == (ids[0], ids[-1])
        assert equal_tables(pq.read_table(folder), alone[name])
        count = duckdb.sql(f"SELECT count(*) FROM '{folder}/*.parquet'").fetchall()
        assert count == [(alone[name].num_rows,)]
        assert store.get(KEYS.table(name)) is None
    monkeypatch.undo()
    write_tables(store, collect(store, [plan]))
    assert not [key for key in store.list(KEYS.tables) if "/part-" in key]
    assert equal_tables(pq.read_table(store.root / KEYS.table("weights")), alone["weights"])


def test_a_table_that_becomes_large_replaces_the_file(
    store: Store, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tables(store, collect(store, [plan]))
    monkeypatch.setattr(results_tables, "LARGE_BYTES", 100_000)
    write_tables(store, collect(store, [plan]))
    assert store.get(KEYS.table("weights")) is None
    assert store.get(KEYS.part("weights", 0)) is not None
    assert store.get(KEYS.table("divergence")) is not None


def test_parts_follow_from_the_plan_alone_and_hold_every_shard_once(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cuts([plan], WeightRow) == [0, MANY]
    monkeypatch.setattr(results_tables, "LARGE_BYTES", 20_000)
    found = cuts([plan, plan], EpochRow)
    assert found[0] == 0 and found[-1] == 2 * MANY
    assert len(found) > 3 and found == sorted(set(found))
    monkeypatch.setattr(results_tables, "LARGE_BYTES", 1)
    assert cuts([plan], EpochRow) == list(range(MANY + 1))
