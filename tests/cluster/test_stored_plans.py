"""Tests of plans in a store: today's, with a head and columns, and those of older versions."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from builders import (
    Counting,
    ablation,
    flipped,
    flipped_digits,
    name_columns,
    planned,
    rewrite,
    split_plan,
)
from command_lines import ROOT

from cluster.sweeps.columns import ColumnFile, PlannedTrial, shards_to_parquet
from cluster.sweeps.head import head_json
from cluster.sweeps.older import whole_json
from cluster.sweeps.plan import Plan, Shard, make_plan
from cluster.sweeps.stored import adopt_plan, read_outline, read_plan, store_plan
from jobs.experiments import EXPERIMENTS
from jobs.mnist_ablation.experiment import ABLATION
from pcworker.errors import DamagedError, InputError
from pcworker.store.keys import SweepKeys
from pcworker.store.local import LocalStore
from pcworker.store.parquet import schema_of, to_parquet
from pcworker.store.sealed import seal
from pcworker.trials.trial import Trial

KEYS = SweepKeys("a")


def plan_a(**changes: Any) -> Plan:
    return split_plan(ablation(**changes), "a")


def store_whole(store: LocalStore, plan: Plan) -> None:
    """Stores the plan as older versions did."""
    store.put(plan.keys.plan, seal(whole_json(plan) | {"provenance": {"argv": []}}))


def column_files(store: LocalStore) -> list[Path]:
    return sorted(store.root.glob("sweeps/a/plan-*.parquet"))


def test_a_plan_comes_back_from_the_store_as_it_was(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    plan = plan_a(networks=["784-2-10", "784-4-10"], seeds=[3, 1, 2], sigma=[0.0, 1e-4])
    store_plan(store, plan, {"argv": []})
    assert read_plan(store, "a", EXPERIMENTS) == plan
    assert read_plan(store, "b", EXPERIMENTS) is None


@pytest.mark.parametrize("seeds", [1, 40])
def test_the_head_is_small_json_with_what_the_plan_is_made_of(tmp_path: Path, seeds: int) -> None:
    store = LocalStore(tmp_path)
    plan = planned(store, ablation(seeds=range(seeds)), "a")
    head = json.loads(store.get(KEYS.plan) or b"")
    assert (head["sweep"], head["seeds"]) == ("a", list(range(seeds)))
    assert (head["trial_count"], head["shard_count"]) == (8 * seeds, len(plan.shards))
    cells = [(cell["panel"], head["configurations"][cell["configuration"]]["rule"])
             for cell in head["cells"]]  # fmt: skip
    assert cells == [(cell.panel, cell.configuration.rule) for cell in plan.cells]
    assert len(head["configurations"]) == 8


def test_the_shards_can_be_queried(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    plan = planned(store, ablation(seeds=[1, 2]), "a")
    [path] = column_files(store)
    found = duckdb.sql(f"SELECT shard_id, trial_id FROM '{path}'").fetchall()
    assert found == [(s.shard_id, t.trial_id) for s in plan.shards for t in s.trials]


def test_what_a_plan_says_of_itself_is_read_without_its_shards(tmp_path: Path) -> None:
    store = Counting(tmp_path)
    plan = planned(store, ablation(), "a")
    for form in ("head and columns", "whole"):
        if form == "whole":
            store_whole(store, plan)
        store.read.clear()
        outline = read_outline(store, "a")
        assert outline is not None
        assert (outline.trial_count, outline.shard_count) == (8, len(plan.shards))
        assert (outline.trial_set, outline.experiment) == (plan.trial_set, "ablation")
        assert store.read == [KEYS.plan]
    assert read_outline(store, "b") is None


def test_the_same_command_again_does_not_read_the_shards(tmp_path: Path) -> None:
    store, plan = Counting(tmp_path), plan_a(seeds=[1, 2])
    store_plan(store, plan, {})
    store.read.clear()
    assert adopt_plan(store, plan) is plan
    assert store_plan(store, plan, {}) is plan
    assert set(store.read) == {KEYS.plan}


def test_other_trials_are_refused_without_reading_the_shards(tmp_path: Path) -> None:
    store = Counting(tmp_path)
    planned(store, ablation(), "a")
    store.read.clear()
    with pytest.raises(InputError, match="8 trials, not these 16"):
        adopt_plan(store, plan_a(seeds=[1, 2]))
    assert store.read == [KEYS.plan]


class Overtaken(LocalStore):
    """A store in which another driver stores its plan while we write our columns."""

    def __init__(self, root: Path, other: Plan) -> None:
        super().__init__(root)
        self._other = other

    def put(self, key: str, data: bytes) -> None:
        super().put(key, data)
        store_plan(LocalStore(self.root), self._other, {})


def test_of_two_drivers_at_once_one_stores_the_plan_and_both_follow_it(tmp_path: Path) -> None:
    ours = plan_a()
    theirs = replace(ours, shards=ours.shards[::-1])
    store = Overtaken(tmp_path, theirs)
    assert store_plan(store, ours, {}) == theirs
    assert read_plan(store, "a", EXPERIMENTS) == theirs
    assert len(column_files(store)) == 2  # ours names nobody


def test_a_driver_that_is_overtaken_by_other_trials_is_refused(tmp_path: Path) -> None:
    store = Overtaken(tmp_path, plan_a(seeds=[2]))
    with pytest.raises(InputError, match="sweep a already holds another plan"):
        store_plan(store, plan_a(), {})


def test_storing_other_trials_under_a_name_is_refused_and_leaves_the_first(tmp_path: Path) -> None:
    """Both asked while the name was free. The second one then stores its plan too late."""
    store = LocalStore(tmp_path)
    first, second = (
        plan_a(),
        make_plan(ABLATION, ablation(seeds=[2]), "a"),
    )
    assert adopt_plan(store, first) == first
    assert adopt_plan(store, second) == second
    assert store_plan(store, first, {}) == first
    with pytest.raises(InputError, match="sweep a already holds another plan"):
        store_plan(store, second, {})
    assert read_plan(store, "a", EXPERIMENTS) == first


def test_storing_the_same_trials_again_gives_the_shards_that_are_stored(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    first = plan_a()
    again = replace(first, shards=first.shards[::-1])
    store_plan(store, first, {"argv": ["first"]})
    assert store_plan(store, again, {"argv": ["again"]}) == first
    assert read_plan(store, "a", EXPERIMENTS) == first


def test_without_a_stored_plan_the_own_plan_is_adopted_and_nothing_is_written(
    tmp_path: Path,
) -> None:
    plan = plan_a()
    assert adopt_plan(LocalStore(tmp_path), plan) == plan
    assert list(tmp_path.iterdir()) == []


def test_the_same_trials_adopt_the_stored_shards_even_if_packed_otherwise(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    today = plan_a()
    last_year = replace(today, shards=today.shards[::-1])
    store_plan(store, last_year, {})
    adopted = adopt_plan(store, make_plan(ABLATION, ablation(t=[16, 0, None]), "a"))
    assert adopted.shards == last_year.shards != today.shards


def test_an_adopted_plan_has_the_cells_and_seeds_that_were_asked_for(tmp_path: Path) -> None:
    """At t = 0 all gammas share one trial. So the plans have the same trials, but other cells."""
    store = LocalStore(tmp_path)
    stored = planned(store, ablation(t=[0], gamma=[1.0, 10.0], seeds=[1, 2]), "a")
    asked = make_plan(ABLATION, ablation(t=[0], gamma=[5.0, 1.0], seeds=[2, 1]), "a")
    for adopted in (adopt_plan(store, asked), store_plan(store, asked, {})):
        assert (adopted.cells, adopted.seeds) == (asked.cells, (2, 1))
        assert adopted.shards == stored.shards
    assert read_plan(store, "a", EXPERIMENTS) == stored


@pytest.mark.parametrize(
    "changes", [{"seeds": [2]}, {"seeds": [1, 2]}, {"t": [None, 0]}, {"alpha": 0.5}]
)
def test_other_trials_under_a_taken_name_are_refused(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    store = LocalStore(tmp_path)
    store_plan(store, make_plan(ABLATION, ablation(), "taken"), {})
    with pytest.raises(InputError, match="sweep taken already holds another plan") as caught:
        adopt_plan(store, make_plan(ABLATION, ablation(**changes), "taken"))
    assert not isinstance(caught.value, DamagedError)
    assert "--sweep" in str(caught.value)
    assert "\n" not in str(caught.value)


def changes_of_a_whole_plan(body: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Changes that damage a plan of an older version, by name."""
    first, *others = body["trials"]
    shard, *shards = body["shards"]
    left_out = set(shard["trial_ids"])
    return {
        "another-seed": {"trials": [{**first, "seed": 99}, *others]},
        "an-impossible-trial": {"trials": [{**first, "alpha": -1.0}, *others]},
        "a-trial-is-missing": {"trials": others},
        "a-shard-is-missing": {"shards": shards},
        "a-shard-is-there-twice": {"shards": [shard, *body["shards"]]},
        "a-shard-and-its-trials-are-missing": {
            "shards": shards,
            "trials": [row for row in body["trials"] if row["trial_id"] not in left_out],
        },
        "a-cell-without-trials": {"cells": [{**body["cells"][0], "trial_ids": []}]},
    }


def changes_of_a_head(body: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Changes that damage the head of a plan, by name."""
    first, *others = body["configurations"]
    cell, *cells = body["cells"]
    return {
        "an-impossible-configuration": {"configurations": [{**first, "alpha": -1.0}, *others]},
        "a-configuration-is-missing": {"configurations": others},
        "a-configuration-is-there-twice": {"configurations": [first, *body["configurations"]]},
        "no-configurations": {"configurations": [], "trial_count": 0},
        "the-last-configuration": {"cells": [{**cell, "configuration": -1}, *cells]},
        "a-configuration-beyond": {"cells": [{**cell, "configuration": 99}, *cells]},
        "a-configuration-of-no-cell": {"cells": cells},
        "another-count-of-trials": {"trial_count": 10**15},
        "another-count-of-shards": {"shard_count": 99},
        "many-seeds-of-no-trial": {"seeds": list(range(50_000))},
        "a-seed-is-there-twice": {"seeds": [1, 1], "trial_count": 16},
        "another-sweep": {"sweep": "b"},
        "more-than-a-head": {"more": 1},
        "columns-elsewhere": {"columns": {"sha256": "../../../victim", "size": 1}},
        "columns-of-no-size": {"columns": {"sha256": "0" * 64}},
        "no-columns": {"columns": None},
    }


def damages() -> dict[str, bytes]:
    """Damaged `plan.json`s by the name of the damage. Most of them have a sha256 that fits."""
    plan = plan_a()
    head = head_json(plan, ColumnFile.of(shards_to_parquet(plan.shards))) | {"provenance": {}}
    whole = whole_json(plan) | {"provenance": {}}
    made = {
        "empty": b"",
        "no-text": b"\xff\xfe\x00",
        "a-list": b"[]",
        "null": b"null",
        "another-object": b'{"hello": 1}',
    }
    for form, body, changes in (
        ("head", head, changes_of_a_head(head)),
        ("whole", whole, changes_of_a_whole_plan(whole)),
    ):
        every = {
            "another-schema": {"schema_version": 99},
            "another-engine": {"engine_version": 99},
            "engine-0": {"engine_version": 0},
            "another-trial-set-and-engine": {"engine_version": 99, "trial_set": "x"},
            **changes,
        }
        good = seal(body)
        made |= {f"{form}-truncated": good[: len(good) // 2]}
        made |= {f"{form}-without-its-seal": json.dumps(body).encode()}
        made |= {f"{form}-{name}": seal(body | change) for name, change in every.items()}
        for name in set(body) - {"experiment"}:  # the oldest plans name none
            made[f"{form}-without-{name}"] = seal({k: v for k, v in body.items() if k != name})
    return made


@pytest.mark.parametrize("damage", sorted(damages()))
def test_a_damaged_plan_is_named(tmp_path: Path, damage: str) -> None:
    store = LocalStore(tmp_path)
    planned(store, ablation(), "a")  # its columns stay as they are
    store.put(KEYS.plan, damages()[damage])
    for read in (lambda: read_plan(store, "a", EXPERIMENTS), lambda: adopt_plan(store, plan_a())):
        with pytest.raises(DamagedError) as caught:
            read()
        assert str(tmp_path / "sweeps/a/plan.json") in str(caught.value)
        assert "\n" not in str(caught.value)


Shards = tuple[Shard[Any], ...]


def columns_of(shards: Shards, **others: list[Any]) -> bytes:
    """The bytes of a file with these shards, in which some columns are replaced."""
    columns: dict[str, list[Any]] = {
        "shard_id": [shard.shard_id for shard in shards for _ in shard.trials],
        "trial_id": [trial.trial_id for shard in shards for trial in shard.trials],
    }
    return to_parquet(pa.table(columns | others, schema=schema_of(PlannedTrial)))


def other_columns() -> dict[str, Callable[[Shards], bytes]]:
    """Files that no plan has, which a forger could name in a head, by what is wrong with them."""
    trial = plan_a().shards[0].trials[0]
    other = Trial(trial.configuration, 99)
    return {
        "no-parquet": lambda shards: b"PAR1 no PAR1",
        "empty": lambda shards: b"",
        "a-shard-is-missing": lambda shards: columns_of(shards[1:]),
        "a-shard-is-there-twice": lambda shards: columns_of(
            (replace(shards[0], trials=shards[0].trials[:1]), *shards[1:],
             replace(shards[0], trials=shards[0].trials[1:]))
        ),
        "a-trial-is-there-twice": lambda shards: columns_of(
            (replace(shards[0], trials=(*shards[0].trials[:-1], shards[0].trials[0])), *shards[1:])
        ),
        "a-trial-too-many": lambda shards: columns_of((*shards, Shard("9999-00000000", (other,)))),
        "a-trial-of-no-cell": lambda shards: columns_of(
            (replace(shards[0], trials=(other, *shards[0].trials[1:])), *shards[1:])
        ),
        "a-shard-that-leads-outside": lambda shards: columns_of(
            (replace(shards[0], shard_id="../../../victim"), *shards[1:])
        ),
        "no-ids": lambda shards: columns_of(shards, shard_id=[None] * 8),
        "another-table": lambda shards: to_parquet(pa.table({"sha256": ["x"] * 8})),
    }  # fmt: skip


@pytest.mark.parametrize("wrong", other_columns())
def test_columns_that_no_plan_has_are_named(tmp_path: Path, wrong: str) -> None:
    """The head says their sha256. So only their content shows that they are forged."""
    store = LocalStore(tmp_path)
    plan = planned(store, ablation(seeds=[1]), "a")
    widest_first = tuple(sorted(plan.shards, key=lambda shard: -len(shard.trials)))
    key = name_columns(store, KEYS, other_columns()[wrong](widest_first))
    for read in (lambda: read_plan(store, "a", EXPERIMENTS), lambda: adopt_plan(store, plan)):
        with pytest.raises(DamagedError) as caught:
            read()
        assert f"{store.describe(key)}, the shards" in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["missing", "truncated", "flipped"])
def test_damaged_columns_are_named(tmp_path: Path, damage: str) -> None:
    store = LocalStore(tmp_path)
    plan = planned(store, ablation(), "a")
    [path] = column_files(store)
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(whole[:-1] if damage == "truncated" else flipped(whole, len(whole) // 2))
    packed_otherwise = replace(plan, shards=plan.shards[::-1])
    for read in (
        lambda: read_plan(store, "a", EXPERIMENTS),
        lambda: adopt_plan(store, packed_otherwise),
    ):
        with pytest.raises(DamagedError, match="the shards of the plan, is damaged") as caught:
            read()
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_plan_of_an_older_version_is_adopted_as_it_is(tmp_path: Path) -> None:
    store, plan = LocalStore(tmp_path), plan_a(seeds=[1, 2])
    last_year = replace(plan, shards=plan.shards[::-1])
    store_whole(store, last_year)
    before = store.get(KEYS.plan)
    assert read_plan(store, "a", EXPERIMENTS) == last_year
    assert adopt_plan(store, plan) == last_year
    assert store_plan(store, plan, {}) == last_year
    assert store.get(KEYS.plan) == before
    assert not column_files(store)


def test_another_digit_anywhere_in_a_plan_is_noticed(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    planned(store, ablation(rules=["BP"]), "a")
    path = Path(store.describe(KEYS.plan))
    for data in flipped_digits(path.read_bytes()):
        path.write_bytes(data)
        with pytest.raises(DamagedError):
            read_plan(store, "a", EXPERIMENTS)


def test_what_is_sealed_again_without_a_change_is_the_same_plan(tmp_path: Path) -> None:
    """This shows that `rewrite` itself does no damage: the other tests' plans are refused for what
    they say."""
    store = LocalStore(tmp_path)
    plan = planned(store, ablation(), "a")
    rewrite(store, KEYS.plan, lambda body: {**body, "provenance": {"argv": ["other"]}})
    assert read_plan(store, "a", EXPERIMENTS) == plan


@pytest.mark.parametrize("name", ["", "a/b", "..", ".a", "-a", "a b", "a+b", "é", "a" * 101, "a\n"])
def test_a_sweep_name_that_is_no_plain_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="sweep name"):
        read_plan(LocalStore(tmp_path), name, EXPERIMENTS)


@pytest.mark.parametrize("trials", [1000, pytest.param(1_000_000, marks=pytest.mark.long)])
def test_a_million_trials_are_planned_in_2_gib(trials: int, tmp_path: Path) -> None:
    """The sizes in the store are those of 12 bytes for each trial and of a head for each sweep."""
    script = ROOT / "tests" / "support" / "planning.py"
    done = subprocess.run(
        [sys.executable, script, "--trials", str(trials), "--store", tmp_path],
        cwd=ROOT, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    peaks = [int(mib) for mib in re.findall(r"peak +(\d+) MiB", done.stdout)]
    assert len(peaks) == 7 and max(peaks) < 2048
    [columns] = tmp_path.rglob("plan-*.parquet")
    assert columns.stat().st_size < 10_000 + 12 * trials
    [head] = tmp_path.rglob("plan.json")
    assert head.stat().st_size < 80_000 + trials
