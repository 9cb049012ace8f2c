"""Tests of Figure 3's grid and of its plan. Oracle: counts from the paper's axes, by hand."""

import random
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from cluster.sweeps.plan import Plan, make_plan
from cluster.sweeps.sweep import Cell, Sweep, declare
from jobs.mnist_ablation.experiment import ABLATION
from jobs.mnist_ablation.packs import MAX_WIDTH
from jobs.mnist_ablation.sweep import mnist_ablation
from pcworker.errors import InputError
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


def test_a_cell_is_declared_with_its_own_gamma() -> None:
    config: Configuration = configuration(rule="IL", t=0)
    assert Cell("t-gamma", config, 5.0).declared == replace(config, gamma=5.0)
