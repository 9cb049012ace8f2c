"""Tests of the identity of a detection run and of its plan."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from command_lines import called, files

from cluster.sweeps.plan import make_plan
from cluster.sweeps.stored import adopt_plan, store_plan
from jobs.detection_rate.configuration import (
    DetectionConfiguration,
    detection_configuration,
)
from jobs.detection_rate.experiment import DETECTION
from jobs.detection_rate.sweep import detection_rate
from pcworker.errors import InputError
from pcworker.plain import from_json
from pcworker.store.local import LocalStore
from pcworker.trials.trial import Trial


def detection(**changes: Any) -> DetectionConfiguration:
    values: dict[str, Any] = {
        "network": "784-32-32-10",
        "horizons": [None, 16],
        "stages": [0, 100],
        "tolerances": [0.0, 1e-6],
    }
    return detection_configuration(**(values | changes))


def sweep(**changes: Any) -> Any:
    values: dict[str, Any] = {
        "networks": ["784-32-10", "784-32-32-10"],
        "seeds": [1, 2],
        "activations": ["sigmoid", "relu"],
        "dtypes": ["float32", "float64"],
        "arithmetics": ["textbook"],
        "gammas": [1.0, 0.5],
        "weights": ["learning", "still"],
        "horizons": [None],
        "stages": [0],
        "tolerances": [0.0],
    }
    return detection_rate(**(values | changes))


def test_a_configuration_has_one_spelling_and_survives_json() -> None:
    config = detection(horizons=[16, None, 2, 16], stages=[100, 0], tolerances=[1e-6, 0])
    assert config == detection()
    assert (config.horizons, config.stages, config.tolerances) == ("2,16", "0,100", "0.0,1e-06")
    assert from_json(DetectionConfiguration, json.loads(json.dumps(asdict(config)))) == config
    assert Trial(config, 1).trial_id != Trial(detection(weights="still"), 1).trial_id


def test_the_twin_has_the_same_training() -> None:
    config = detection(gamma=0.5, weights="still", activation="tanh", dtype="float64")
    assert config.twin().training == config.training
    assert config.twin() == detection(arithmetic="displacement", activation="tanh", dtype="float64")
    assert config.twin().twin() == config.twin()


def test_inference_is_literal_fa_z_il_to_the_largest_horizon() -> None:
    inference = detection(gamma=0.5).inference(3)
    assert (inference.rule, inference.t_d, inference.horizon) == ("Fa-Z-IL", 3, 16)
    assert (inference.schedule, inference.gamma, inference.arithmetic) == (
        "literal",
        0.5,
        "textbook",
    )


@pytest.mark.parametrize(
    ("wrong", "parts"),
    [
        ({"weights": "frozen"}, ("weights 'frozen'", "learning, still")),
        ({"activation": "gelu"}, ("activation 'gelu'", "sigmoid, tanh, relu")),
        ({"dtype": "float16"}, ("dtype 'float16'", "float32, float64")),
        ({"arithmetic": "other"}, ("arithmetic 'other'", "displacement, textbook")),
        ({"gamma": 0.0}, ("gamma 0.0", "above 0")),
        ({"alpha": -1.0}, ("alpha -1.0", "above 0")),
        ({"minibatches": 0}, ("minibatches 0", "at least 1")),
        ({"network": "784"}, ("network '784'", "784-32-32-10")),
        ({"horizons": [1]}, ("horizons 1", "at least 2")),
        ({"horizons": []}, ("horizons ''", "give numbers")),
        ({"stages": [-1]}, ("stages -1", "at least 0")),
        ({"tolerances": [-1e-9]}, ("tolerances -1e-09", "at least 0")),
        ({"tolerances": [float("nan")]}, ("tolerances nan", "at least 0")),
        ({"tolerances": [float("inf")]}, ("tolerances inf", "at least 0")),
    ],
)
def test_what_is_wrong_is_named_with_what_is_allowed(
    wrong: dict[str, Any], parts: tuple[str, ...]
) -> None:
    with pytest.raises(InputError) as refused:
        detection(**wrong)
    assert all(part in str(refused.value) for part in parts)


def test_another_spelling_is_refused() -> None:
    values = asdict(detection())
    with pytest.raises(InputError, match="stages '100,0': give each number once, in rising order"):
        from_json(DetectionConfiguration, values | {"stages": "100,0"})


def test_one_thing_is_varied_at_a_time_and_each_trial_is_a_shard(tmp_path: Path) -> None:
    declared = sweep()
    assert len(declared.trials) == 2 * 2 * 5
    base = detection(horizons=[None], stages=[0], tolerances=[0.0])
    differing = [
        sum(value != asdict(base)[name] for name, value in asdict(trial.configuration).items())
        for trial in declared.trials
        if trial.configuration.network == "784-32-32-10"
    ]
    assert sorted(differing) == [0, 0, *[1] * 8]
    plan, store = make_plan(DETECTION, declared, "a"), LocalStore(tmp_path)
    assert [len(shard.trials) for shard in plan.shards] == [1] * 20
    store_plan(store, plan, {})
    assert adopt_plan(store, plan) == plan


def test_a_network_that_is_not_for_mnist_is_refused() -> None:
    with pytest.raises(InputError, match="network '3-2-2': MNIST needs 784 inputs"):
        sweep(networks=["3-2-2"])


def test_a_plan_says_what_would_be_run_and_starts_nothing(tmp_path: Path) -> None:
    done = called("--store", str(tmp_path), "--plan", module="jobs.detection_rate")
    assert (done.code, done.stderr) == (0, "")
    assert "24 trials in 24 shards" in done.stdout
    assert "Nothing was started." in done.stdout
    assert files(tmp_path) == []
