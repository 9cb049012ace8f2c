"""Tests of Figure 3's grid and of its plan. Oracle: counts from the paper's axes, by hand."""

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import ablation, flipped_digits, planned, rewrite, split_plan

from cluster.sweeps.plan import Plan, adopt_plan, make_plan, plan_json, read_plan, store_plan
from cluster.sweeps.sweep import Cell, Sweep, declare, trial_set_fingerprint
from jobs.experiments import EXPERIMENTS
from jobs.mnist_ablation.experiment import ABLATION
from jobs.mnist_ablation.packs import MAX_WIDTH
from jobs.mnist_ablation.sweep import mnist_ablation
from pcworker.errors import DamagedError, InputError
from pcworker.store.keys import SweepKeys
from pcworker.store.local import LocalStore
from pcworker.store.sealed import seal
from pcworker.trials.configuration import Configuration, configuration, stack_key
from pcworker.trials.trial import Trial

NETWORKS = ("784-32-10", "784-32-32-10", "784-32-32-32-10")
STEPS = (None, 0, 1, 2, 3, 4, 16, 64)
GAMMAS = (0.01, 0.1, 0.5, 1.0, 5.0, 10.0)
SIGMAS = (0.0, 0.0001, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0)


def figure3(**changes: Any) -> Sweep:
    axes: dict[str, Any] = {
        "networks": NETWORKS[:1],
        "seeds": (1,),
        "t": STEPS,
        "gamma": GAMMAS,
        "sigma": SIGMAS,
    }
    return mnist_ablation(**(axes | changes))


def in_panel(sweep: Sweep, panel: str) -> list[Cell]:
    return [cell for cell in sweep.cells if cell.panel == panel]


def rules_of(sweep: Sweep) -> Counter[str]:
    return Counter(cell.configuration.rule for cell in sweep.cells)


# The sweep


@pytest.mark.parametrize(
    ("networks", "seeds", "trials"), [(1, 1, 52), (3, 1, 156), (1, 3, 156), (3, 3, 468)]
)
def test_figure_3_has_52_distinct_trials_per_network_and_seed(
    networks: int, seeds: int, trials: int
) -> None:
    sweep = figure3(networks=NETWORKS[:networks], seeds=(1, 2, 3)[:seeds])
    assert len(sweep.trials) == trials
    assert len({trial.trial_id for trial in sweep.trials}) == trials


def test_figure_3_has_48_cells_of_t_and_gamma_8_of_sigma_and_2_rules() -> None:
    panels = Counter(cell.panel for cell in figure3().cells)
    assert panels == {"t-gamma": 48, "sigma": 8, "rule": 2}


def test_all_gammas_at_t_0_are_6_cells_but_one_trial() -> None:
    cells = [cell for cell in figure3().cells if cell.configuration.t == 0]
    assert tuple(cell.gamma for cell in cells) == GAMMAS
    assert tuple(cell.declared.gamma for cell in cells) == GAMMAS
    assert {cell.configuration.gamma for cell in cells} == {None}
    assert len({Trial(cell.configuration, 1) for cell in cells}) == 1


def test_the_cell_without_any_broken_condition_is_in_two_panels_and_trained_once() -> None:
    exact = configuration(network=NETWORKS[0], rule="Z-IL")
    panels = [cell.panel for cell in figure3().cells if cell.configuration == exact]
    assert sorted(panels) == ["sigma", "t-gamma"]


def test_rules_that_should_agree_are_trained_each_on_its_own() -> None:
    counts = Counter(trial.configuration.rule for trial in figure3().trials)
    # IL has one trial at t = 0, and 6 other t with 6 gammas. Z-IL has 6 gammas and 8 sigmas, with
    # one trial in common.
    assert counts == {"BP": 1, "IL": 37, "Z-IL": 13, "Fa-Z-IL": 1}


def test_il_with_t_0_keeps_its_noise() -> None:
    sweep = figure3(t=(0,), gamma=(1.0,), sigma=(0.1,))
    assert [cell.configuration.sigma for cell in in_panel(sweep, "t-gamma")] == [0.1]


def test_t_and_gamma_replace_the_axes_of_their_panel_and_leave_the_others() -> None:
    sweep = figure3(t=(None, 5), gamma=(0.2, 2.0))
    cells = {(cell.configuration.t, cell.gamma) for cell in in_panel(sweep, "t-gamma")}
    assert cells == {(None, 0.2), (None, 2.0), (5, 0.2), (5, 2.0)}
    assert {cell.configuration.sigma for cell in in_panel(sweep, "t-gamma")} == {0.0}
    assert tuple(cell.configuration.sigma for cell in in_panel(sweep, "sigma")) == SIGMAS


def test_sigma_replaces_the_axis_of_c1_at_t_l_and_gamma_1_and_leaves_the_others() -> None:
    sweep = figure3(sigma=(0.3, 0.7))
    expected = [
        configuration(network=NETWORKS[0], rule="Z-IL", gamma=1.0, sigma=sigma)
        for sigma in (0.3, 0.7)
    ]
    assert [cell.configuration for cell in in_panel(sweep, "sigma")] == expected
    assert len(in_panel(sweep, "t-gamma")) == 48


@pytest.mark.parametrize("t", [None, 0, 7])
def test_a_single_t_gamma_and_sigma_are_that_one_cell_and_bp(t: int | None) -> None:
    sweep = figure3(t=(t,), gamma=(5.0,), sigma=(0.5,))
    rule = "Z-IL" if t is None else "IL"
    cell = configuration(network=NETWORKS[0], rule=rule, t=t, gamma=5.0, sigma=0.5)
    bp = configuration(network=NETWORKS[0], rule="BP")
    assert [cell.configuration for cell in sweep.cells] == [cell, bp]
    assert sweep.cells[0].gamma == 5.0


def test_two_single_values_are_still_panels() -> None:
    sweep = figure3(t=(2,), gamma=(1.0,))
    assert Counter(cell.panel for cell in sweep.cells) == {"t-gamma": 1, "sigma": 8, "rule": 2}


@pytest.mark.parametrize(
    ("rules", "kept"),
    [
        (("BP",), {"BP": 1}),
        (("IL",), {"IL": 42, "BP": 1}),
        (("Z-IL",), {"Z-IL": 14, "BP": 1}),
        (("Fa-Z-IL",), {"Fa-Z-IL": 1, "BP": 1}),
        (("IL", "Fa-Z-IL"), {"IL": 42, "Fa-Z-IL": 1, "BP": 1}),
    ],
)
def test_rules_keep_the_cells_of_those_rules_and_bp(
    rules: tuple[str, ...], kept: dict[str, int]
) -> None:
    assert rules_of(figure3(rules=rules)) == kept


@pytest.mark.parametrize(
    ("axes", "lacking"),
    [
        ({"rules": ("Fa-Z-IL",), "t": (None,), "gamma": (1.0,), "sigma": (0.0,)}, "Fa-Z-IL"),
        ({"rules": ("BP", "Z-IL"), "t": (3,), "gamma": (1.0,), "sigma": (0.0,)}, "Z-IL"),
        ({"rules": ("IL", "Z-IL"), "t": (None,)}, "IL"),
    ],
)
def test_a_rule_that_was_asked_for_and_has_no_cell_is_refused(
    axes: dict[str, Any], lacking: str
) -> None:
    with pytest.raises(InputError, match=f"rules {lacking}: none of the declared cells is theirs"):
        figure3(**axes)


def test_an_unknown_rule_is_refused_with_what_is_allowed() -> None:
    with pytest.raises(InputError, match=r"'PC' is unknown; allowed: BP, IL, Z-IL, Fa-Z-IL"):
        figure3(rules=("BP", "PC"))


@pytest.mark.parametrize("network", ["784-32-11", "28-32-10", "10-32-784", "784"])
def test_a_network_that_mnist_does_not_fit_is_refused(network: str) -> None:
    with pytest.raises(InputError, match=network):
        figure3(networks=(network,))


@pytest.mark.parametrize("axes", [{}, {"t": (0,)}, {"t": (2,), "sigma": (0.1,)}])
@pytest.mark.parametrize("gamma", [(0.0,), (1.0, 0.0), (0,)])
def test_gamma_0_is_refused_and_not_taken_for_no_gamma(
    axes: dict[str, Any], gamma: tuple[float, ...]
) -> None:
    with pytest.raises(InputError, match=r"gamma 0\.0: must be a finite number above 0"):
        figure3(**axes, gamma=gamma)


def test_further_settings_are_those_of_every_trial() -> None:
    sweep = figure3(dtype="float64", alpha=0.1, epochs=3, schedule="literal")
    settings = {(t.configuration.dtype, t.configuration.alpha, t.configuration.epochs)
                for t in sweep.trials}  # fmt: skip
    assert settings == {("float64", 0.1, 3)}
    assert {t.configuration.schedule for t in sweep.trials} == {"literal", None}


def test_repeated_cells_and_seeds_count_once() -> None:
    cells = figure3().cells
    assert declare([*cells, *cells], [2, 1, 2]) == Sweep(cells, (2, 1))


def test_the_default_name_depends_on_the_set_of_trials_only() -> None:
    name = figure3(seeds=(1, 2)).default_name("mnist")
    assert name == figure3(seeds=(2, 1), t=STEPS[::-1]).default_name("mnist")
    assert name != figure3(seeds=(1, 3)).default_name("mnist")
    prefix, digits = name.split("-")
    assert prefix == "mnist"
    assert len(digits) == 8
    assert int(digits, 16) >= 0


# The plan


def plans() -> list[Plan]:
    return [
        make_plan(ABLATION, figure3(networks=NETWORKS, seeds=(1, 2, 3)), "whole"),
        make_plan(ABLATION, figure3(networks=NETWORKS, seeds=range(20)), "many-seeds"),
        make_plan(ABLATION, figure3(rules=("BP",), seeds=(1, 2)), "bp"),
        make_plan(ABLATION, figure3(t=(64,), rules=("IL",), seeds=range(30)), "long"),
        make_plan(ABLATION, figure3(t=(64,), gamma=(1.0,), sigma=(0.0,)), "one-cell"),
        make_plan(ABLATION, figure3(t=range(60), gamma=(0.5, 1.0)), "many-steps"),
    ]


@pytest.mark.parametrize("plan", plans(), ids=lambda plan: plan.name)
def test_every_trial_is_in_exactly_one_shard(plan: Plan) -> None:
    wanted = {Trial(cell.configuration, seed) for cell in plan.cells for seed in plan.seeds}
    assert Counter(plan.trials) == Counter(wanted)
    assert len({shard.shard_id for shard in plan.shards}) == len(plan.shards)


@pytest.mark.parametrize("plan", plans(), ids=lambda plan: plan.name)
def test_no_shard_is_empty_or_wider_than_the_limit(plan: Plan) -> None:
    widths = [len(shard.trials) for shard in plan.shards]
    assert min(widths) >= 1
    assert max(widths) <= MAX_WIDTH


@pytest.mark.parametrize("plan", plans(), ids=lambda plan: plan.name)
def test_the_trials_of_a_shard_can_share_a_stack_and_its_twins(plan: Plan) -> None:
    for shard in plan.shards:
        twins = {trial.twin.configuration for trial in shard.trials}
        keys = {stack_key(t.configuration) for t in shard.trials if t.configuration.rule != "BP"}
        assert len(twins) == 1
        assert len(keys) <= 1


def test_bp_is_trained_beside_trials_of_which_it_is_the_twin() -> None:
    for shard in make_plan(ABLATION, figure3(networks=NETWORKS, seeds=(1, 2, 3)), "whole").shards:
        seeds = {t.seed for t in shard.trials if t.configuration.rule != "BP"}
        for trial in shard.trials:
            assert trial.configuration.rule != "BP" or trial.seed in seeds


@pytest.mark.parametrize("shuffling", range(5))
def test_the_order_of_axes_and_seeds_does_not_change_the_shards(shuffling: int) -> None:
    def shuffled(values: Any) -> tuple[Any, ...]:
        return tuple(shuffle.sample(values, len(values)))

    shuffle = random.Random(shuffling)
    seeds = (1, 2, 3)
    ordered = make_plan(ABLATION, figure3(networks=NETWORKS, seeds=seeds), "a")
    mixed = figure3(
        networks=shuffled(NETWORKS),
        seeds=shuffled(seeds),
        t=shuffled(STEPS),
        gamma=shuffled(GAMMAS),
        sigma=shuffled(SIGMAS),
    )
    assert mixed.trials != figure3(networks=NETWORKS, seeds=seeds).trials
    assert make_plan(ABLATION, mixed, "b").shards == ordered.shards


def test_planning_twice_gives_the_same_plan() -> None:
    assert make_plan(ABLATION, figure3(), "a") == make_plan(ABLATION, figure3(), "a")


# The plan in the store


def test_a_plan_comes_back_from_the_store_as_it_was(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    plan = make_plan(ABLATION, figure3(networks=NETWORKS, seeds=(3, 1, 2), sigma=(0.0, 1e-4)), "a")
    store_plan(store, plan, {"argv": []})
    assert read_plan(store, "a", EXPERIMENTS) == plan
    assert read_plan(store, "b", EXPERIMENTS) is None


def test_the_plan_is_public_json_with_its_trials_and_their_shards() -> None:
    plan = make_plan(ABLATION, ablation(), "a")
    body = json.loads(json.dumps(plan_json(plan)))
    assert body["sweep"] == "a"
    assert body["trial_set"] == trial_set_fingerprint(plan.trials)
    rows = {row["trial_id"]: row for row in body["trials"]}
    listed = [trial_id for shard in body["shards"] for trial_id in shard["trial_ids"]]
    assert sorted(listed) == sorted(rows)
    assert {(row["rule"], row["t"]) for row in rows.values()} == {
        ("BP", None), ("Z-IL", None), ("Fa-Z-IL", None), ("IL", 0), ("IL", 16),
    }  # fmt: skip


def test_storing_other_trials_under_a_name_is_refused_and_leaves_the_first(tmp_path: Path) -> None:
    """Both asked while the name was free. The second one then stores its plan too late."""
    store = LocalStore(tmp_path)
    first, second = (
        make_plan(ABLATION, ablation(), "a"),
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
    first = split_plan(ablation(), "a")
    again = replace(first, shards=first.shards[::-1])
    store_plan(store, first, {"argv": ["first"]})
    assert store_plan(store, again, {"argv": ["again"]}) == first
    assert read_plan(store, "a", EXPERIMENTS) == first


def test_without_a_stored_plan_the_own_plan_is_adopted_and_nothing_is_written(
    tmp_path: Path,
) -> None:
    plan = make_plan(ABLATION, ablation(), "a")
    assert adopt_plan(LocalStore(tmp_path), plan) == plan
    assert list(tmp_path.iterdir()) == []


def test_the_same_trials_adopt_the_stored_shards_even_if_packed_otherwise(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    today = split_plan(ablation(), "a")
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


def damages() -> dict[str, bytes]:
    """Damaged plans by the name of the damage. Most of them have a sha256 that fits."""
    body = plan_json(split_plan(ablation(), "a"))
    good = seal(body)
    first, *others = body["trials"]
    shard, *shards = body["shards"]
    left_out = set(shard["trial_ids"])
    changes: dict[str, dict[str, Any]] = {
        "another-schema": {"schema_version": 99},
        "another-engine": {"engine_version": 99},
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
    return {
        "truncated": good[: len(good) // 2],
        "empty": b"",
        "no-text": b"\xff\xfe\x00",
        "a-list": b"[]",
        "null": b"null",
        "another-object": b'{"hello": 1}',
        "without-its-seal": json.dumps(body).encode(),
        **{name: seal(body | change) for name, change in changes.items()},
        **{
            f"without-{name}": seal({k: v for k, v in body.items() if k != name})
            for name in ("schema_version", "seeds", "cells", "shards", "trials")
        },
    }


@pytest.mark.parametrize("damage", damages())
def test_a_damaged_plan_is_named(tmp_path: Path, damage: str) -> None:
    store = LocalStore(tmp_path)
    store.put(SweepKeys("a").plan, damages()[damage])
    for read in (lambda: read_plan(store, "a", EXPERIMENTS), lambda: adopt_plan(store, _plan_a())):
        with pytest.raises(DamagedError) as caught:
            read()
        assert str(tmp_path / "sweeps/a/plan.json") in str(caught.value)
        assert "\n" not in str(caught.value)


def _plan_a() -> Plan:
    return make_plan(ABLATION, ablation(), "a")


def test_another_digit_anywhere_in_a_plan_is_noticed(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    planned(store, ablation(rules=["BP"]), "a")
    path = Path(store.describe(SweepKeys("a").plan))
    for data in flipped_digits(path.read_bytes()):
        path.write_bytes(data)
        with pytest.raises(DamagedError):
            read_plan(store, "a", EXPERIMENTS)


def test_what_is_sealed_again_without_a_change_is_the_same_plan(tmp_path: Path) -> None:
    """This shows that `rewrite` itself does no damage: the other tests' plans are refused for what
    they say."""
    store = LocalStore(tmp_path)
    plan = planned(store, ablation(), "a")
    rewrite(store, SweepKeys("a").plan, lambda body: {**body, "provenance": {"argv": ["other"]}})
    assert read_plan(store, "a", EXPERIMENTS) == plan


@pytest.mark.parametrize("name", ["", "a/b", "..", ".a", "-a", "a b", "a+b", "é", "a" * 101, "a\n"])
def test_a_sweep_name_that_is_no_plain_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="sweep name"):
        read_plan(LocalStore(tmp_path), name, EXPERIMENTS)


def test_a_cell_is_declared_with_its_own_gamma() -> None:
    config: Configuration = configuration(rule="IL", t=0)
    assert Cell("t-gamma", config, 5.0).declared == replace(config, gamma=5.0)
