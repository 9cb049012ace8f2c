"""Configurations: what is refused, what is dropped, and what makes a trial the same trial."""

import hashlib
import json
import math
from dataclasses import asdict
from typing import Any

import pytest
from builders import tiny

from pcworker.errors import InputError
from pcworker.plain import from_json
from pcworker.trials.configuration import (
    Configuration,
    configuration,
    stack_key,
)
from pcworker.trials.trial import MAX_SEED, Trial

NAMED = {
    "rule": "BP, IL, Z-IL, Fa-Z-IL",
    "activation": "sigmoid, tanh, relu",
    "init": "xavier, linear, glorot4",
    "reduction": "sum, mean",
    "targets": "onehot, soft",
    "dtype": "float32, float64",
    "arithmetic": "displacement, textbook",
    "schedule": "layerwise, literal",
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "BP": {"rule": "BP"},
    "IL": {"rule": "IL", "t": 3},
    "Z-IL": {"rule": "Z-IL"},
    "Fa-Z-IL": {"rule": "Fa-Z-IL"},
}


@pytest.mark.parametrize("name", NAMED)
def test_an_unknown_choice_is_refused_with_what_is_allowed(name: str) -> None:
    with pytest.raises(InputError) as caught:
        tiny(**{name: "guess"})
    assert name in str(caught.value)
    assert "'guess'" in str(caught.value)
    assert NAMED[name] in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("t", -1, "at least 0"),
        ("t_d", 0, "at least 1"),
        ("horizon", -1, "at least 0"),
        ("batch_size", 0, "at least 1"),
        ("epochs", 0, "at least 1"),
        ("gamma", 0.0, "finite number above 0"),
        ("gamma", -0.5, "finite number above 0"),
        ("gamma", math.inf, "finite number above 0"),
        ("gamma", math.nan, "finite number above 0"),
        ("alpha", 0.0, "finite number above 0"),
        ("alpha", math.inf, "finite number above 0"),
        ("alpha", math.nan, "finite number above 0"),
        ("sigma", -0.1, "finite number of at least 0"),
        ("sigma", math.inf, "finite number of at least 0"),
        ("sigma", math.nan, "finite number of at least 0"),
    ],
)
@pytest.mark.parametrize("rule", DEFAULTS)
def test_a_number_out_of_range_is_refused_by_every_rule_even_where_it_is_not_used(
    rule: str, name: str, value: float, allowed: str
) -> None:
    with pytest.raises(InputError) as caught:
        configuration(**(DEFAULTS[rule] | {name: value}))
    assert f"{name} {value}" in str(caught.value)
    assert allowed in str(caught.value)


@pytest.mark.parametrize(
    "network",
    [
        "", "784", "784-x-10", "784-0-10", "784--10", "-784-10",
        # other spellings of 784-32-10 would be trials of their own
        "784-032-10", "784- 32-10", "784-3_2-10", "784-+32-10", "784-32-10\n",
        "784-\u0663\u0662-10",
    ],
)  # fmt: skip
def test_a_network_that_is_no_list_of_widths_is_refused_with_an_example(network: str) -> None:
    with pytest.raises(InputError) as caught:
        configuration(rule="BP", network=network)
    assert repr(network) in str(caught.value)
    assert "784-32-32-10" in str(caught.value)


@pytest.mark.parametrize("seed", [-1, MAX_SEED + 1])
def test_a_seed_that_does_not_fit_in_int64_is_refused(seed: int) -> None:
    with pytest.raises(InputError) as caught:
        Trial(tiny(), seed)
    assert str(seed) in str(caught.value)
    assert "from 0 to 2^63 - 1" in str(caught.value)


@pytest.mark.parametrize("value", [True, 2.0, 1.5, "2"])
@pytest.mark.parametrize("name", ["t", "t_d", "horizon", "batch_size", "epochs", "seed"])
def test_a_count_that_is_no_int_is_refused_because_its_trial_would_have_another_id(
    name: str, value: Any
) -> None:
    with pytest.raises(InputError, match=f"{name} {value}: must be a whole number"):
        Trial(tiny("Fa-Z-IL"), value) if name == "seed" else tiny(
            "IL", **({"t": 1} | {name: value})
        )


def test_il_without_t_is_refused() -> None:
    with pytest.raises(InputError, match="IL needs t"):
        configuration(rule="IL")


@pytest.mark.parametrize("name", ["arithmetic", "schedule"])
def test_only_bp_may_have_no_arithmetic_and_no_schedule(name: str) -> None:
    assert getattr(Configuration(**(asdict(tiny("BP")) | {name: None})), name) is None
    with pytest.raises(InputError, match=f"{name} None"):
        Configuration(**(asdict(tiny("Z-IL")) | {name: None}))


@pytest.mark.parametrize(
    ("given", "dropped"),
    [
        (
            {"rule": "BP"},
            {"t", "t_d", "horizon", "gamma", "sigma", "arithmetic", "schedule"},
        ),
        ({"rule": "Z-IL"}, {"t", "t_d", "horizon"}),
        ({"rule": "Fa-Z-IL"}, {"t"}),
        ({"rule": "IL", "t": 2}, {"t_d", "horizon"}),
        ({"rule": "IL", "t": 0}, {"t_d", "horizon", "gamma"}),
    ],
)
def test_exactly_what_a_rule_does_not_use_is_none(given: dict[str, Any], dropped: set[str]) -> None:
    everything = {"t": 5, "t_d": 2, "horizon": 7, "gamma": 0.5, "sigma": 0.1}
    made = asdict(configuration(**(everything | given)))
    assert {name for name, value in made.items() if value is None} == dropped
    kept = {name: value for name, value in (everything | given).items() if name not in dropped}
    assert made | kept == made


def test_il_at_t_0_with_any_gamma_is_one_configuration() -> None:
    assert len({tiny("IL", t=0, gamma=gamma) for gamma in (0.01, 0.1, 1.0, 10.0)}) == 1
    assert len({tiny("IL", t=1, gamma=gamma) for gamma in (0.01, 0.1, 1.0, 10.0)}) == 4


def test_numbers_that_are_equal_give_one_trial_however_they_are_written() -> None:
    floats = tiny(gamma=1.0, sigma=0.0, alpha=1.0)
    others = tiny(gamma=1, sigma=-0.0, alpha=1)
    assert Trial(floats, 1).trial_id == Trial(others, 1).trial_id


def test_the_horizon_of_fa_z_il_is_the_deepest_hidden_layer_by_default() -> None:
    assert configuration(rule="Fa-Z-IL", network="784-32-10").horizon == 1
    assert configuration(rule="Fa-Z-IL", network="784-32-32-32-10").horizon == 3
    assert configuration(rule="Fa-Z-IL", network="784-32-10", horizon=0).horizon == 0


def test_layers_are_counted_from_the_output() -> None:
    config = configuration(rule="BP", network="784-64-32-10")
    assert config.widths == (10, 32, 64, 784)
    assert (config.l_max, config.hidden_layers) == (3, 2)


def test_the_last_step_is_where_the_rule_looks_last() -> None:
    network = "784-8-8-8-10"  # l_max = 4
    assert configuration(rule="BP", network=network).last_step == 0
    assert configuration(rule="Z-IL", network=network).last_step == 3
    assert configuration(rule="IL", t=16, network=network).last_step == 16
    assert configuration(rule="IL", t=0, network=network).last_step == 0
    assert configuration(rule="Fa-Z-IL", horizon=9, network=network).last_step == 9


# Identity. Oracle: sha256 of JSON written out here.


def test_a_trial_id_is_the_sha256_of_what_defines_the_trial() -> None:
    identity = {
        "network": "784-32-32-10",
        "activation": "sigmoid",
        "bias": False,
        "rule": "IL",
        "t": 2,
        "t_d": None,
        "horizon": None,
        "gamma": 0.5,
        "sigma": 0.0,
        "alpha": 0.001,
        "batch_size": 20,
        "epochs": 1,
        "init": "xavier",
        "reduction": "sum",
        "targets": "onehot",
        "dtype": "float32",
        "arithmetic": "displacement",
        "schedule": "layerwise",
        "seed": 7,
        "sums": "fixed",
        "engine_version": 2,
    }
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    trial = Trial(configuration(rule="IL", t=2, gamma=0.5), 7)
    assert trial.trial_id == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_whatever_changes_a_training_changes_its_trial_id() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"rule": "BP"},
        {"rule": "IL", "t": 0},
        {"rule": "IL", "t": 1},
        {"rule": "Fa-Z-IL"},
        {"rule": "Fa-Z-IL", "t_d": 1},
        {"rule": "Fa-Z-IL", "horizon": 9},
        {"network": "3-3-2"},
        {"gamma": 0.5},
        {"sigma": 0.1},
        {"activation": "tanh"},
        {"bias": True},
        {"alpha": 0.01},
        {"batch_size": 16},
        {"epochs": 2},
        {"init": "linear"},
        {"reduction": "mean"},
        {"targets": "soft"},
        {"dtype": "float64"},
        {"arithmetic": "textbook"},
        {"schedule": "literal"},
    ]
    trials = [Trial(tiny(**change), seed) for change in changes for seed in (0, 1)]
    assert len({trial.trial_id for trial in trials}) == len(trials)


def test_a_configuration_comes_back_from_its_values() -> None:
    config = tiny("IL", t=0, sigma=0.1)
    assert from_json(Configuration, {**asdict(config), "other": 1}) == config
    with pytest.raises(ValueError, match="activation is missing"):
        from_json(Configuration, {"network": "3-2-2"})


# Twins


@pytest.mark.parametrize("rule", DEFAULTS)
def test_the_twin_is_the_bp_configuration_of_the_same_training(rule: str) -> None:
    shared: dict[str, Any] = {
        "network": "3-4-2",
        "activation": "relu",
        "bias": True,
        "alpha": 0.25,
        "batch_size": 4,
        "epochs": 3,
        "init": "linear",
        "reduction": "mean",
        "targets": "soft",
        "dtype": "float64",
    }
    own = {"gamma": 0.1, "sigma": 1.0, "arithmetic": "textbook", "schedule": "literal"}
    config = configuration(**(shared | own | DEFAULTS[rule]))
    assert config.twin() == configuration(rule="BP", **shared)
    assert Trial(config, 5).twin == Trial(configuration(rule="BP", **shared), 5)


def test_bp_is_its_own_twin() -> None:
    trial = Trial(tiny("BP"), 1)
    assert trial.twin == trial


def test_trials_of_all_rules_and_schedules_may_share_a_stack_but_not_of_two_networks() -> None:
    mixed = [
        tiny("Z-IL", gamma=0.1),
        tiny("IL", t=0, sigma=1.0),
        tiny("IL", t=64, gamma=10.0),
        tiny("Fa-Z-IL", t_d=1, horizon=9),
        tiny("Z-IL", schedule="literal"),
    ]
    assert len({stack_key(config) for config in mixed}) == 1
    changes: tuple[dict[str, Any], ...] = (
        {},
        {"arithmetic": "textbook"},
        {"network": "3-3-2"},
    )
    assert len({stack_key(tiny(**change)) for change in changes}) == 3


def test_fa_z_il_is_literal_by_default_and_the_others_layerwise() -> None:
    """Its layerwise schedule would not see a neuron that fires late: with relu there are many."""
    schedules = {rule: configuration(rule=rule, t=1).schedule for rule in ("IL", "Z-IL", "Fa-Z-IL")}
    assert schedules == {"IL": "layerwise", "Z-IL": "layerwise", "Fa-Z-IL": "literal"}
