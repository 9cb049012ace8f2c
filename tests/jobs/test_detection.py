"""Tests of where phi spikes and how it is counted. The oracles share nothing with the code."""

from dataclasses import asdict, replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from jobs.detection_rate.configuration import T_D, detection_configuration
from jobs.detection_rate.counts import Counts, count, phi
from jobs.detection_rate.engine import DetectionEngine
from jobs.detection_rate.tables import detection_digest
from pcworker.data.batches import Chunk
from pcworker.data.mnist import Digits
from pcworker.equations.inference import State
from pcworker.equations.phi import BufferedDetector
from pcworker.errors import InputError
from pcworker.kernels.backprop import Backprop
from pcworker.kernels.fixed.gathered import listed
from pcworker.kernels.fixed.reference import FixedBackprop
from pcworker.kernels.fixed.trial import FixedTrial
from pcworker.kernels.stack import Stack
from pcworker.trials.configuration import configuration
from pcworker.trials.digests import network_digest
from pcworker.trials.measures import to_numpy
from pcworker.trials.trial import Trial

STEPS = 12


def config(**changes: Any) -> Any:
    values: dict[str, Any] = {
        "network": "784-16-16-10",
        "horizons": [None, 8],
        "stages": [0, 5],
        "tolerances": [0, 1e-4],
        "minibatches": 2,
    }
    return detection_configuration(**(values | changes))


def some_errors(zeros: float, seed: int = 0) -> np.ndarray:
    """Random errors [STEPS, 5, 7], float64. A share of about `zeros` is exactly 0."""
    random = np.random.default_rng(seed)
    errors = random.normal(size=(STEPS, 5, 7)) * 10.0 ** random.integers(-8, 1, (STEPS, 5, 7))
    return np.where(random.random(errors.shape) < zeros, 0.0, errors)


def slow_phi(errors: list[float], t: int, t_d: int, tolerance: float) -> bool:
    """phi as the paper says it: eps_{t - t_d} = 0, ..., eps_{t - 1} = 0, and eps_t != 0."""
    before = [errors[s] if s >= 0 else 0.0 for s in range(t - t_d, t)]
    return all(abs(eps) <= tolerance for eps in before) and not abs(errors[t]) <= tolerance


def slow_count(errors: np.ndarray, l: int, t_d: int, horizon: int, tolerance: float) -> Counts:
    sums = dict.fromkeys(Counts.__dataclass_fields__, 0)
    for sample, neuron in np.ndindex(*errors.shape[1:]):
        eps = [float(value) for value in errors[:, sample, neuron]]
        spikes = {t for t in range(horizon + 1) if slow_phi(eps, t, t_d, tolerance)}
        sums["pairs"] += 1
        sums["spikes"] += len(spikes)
        sums["spike_at_l"] += l in spikes
        sums["only_at_l"] += spikes == {l}
        sums["early"] += any(t < l for t in spikes)
        sums["late"] += any(t > l for t in spikes)
        if l not in spikes:
            sums["missed_zero" if abs(eps[l]) <= tolerance else "missed_nonzero"] += 1
            sums["missed_late"] += any(t > l for t in spikes)
    return Counts(**sums)


@pytest.mark.parametrize("zeros", [0.0, 0.3, 0.7, 0.95, 1.0])
def test_counts_are_those_of_a_slow_loop_over_the_papers_sentence(zeros: float) -> None:
    errors = some_errors(zeros)
    horizons = [3, 7, STEPS - 1]
    for l, t_d, tolerance in product(range(4), (1, 2, 5, 16), (0.0, 1e-6, 1e-2)):
        expected = [slow_count(errors, l, t_d, horizon, tolerance) for horizon in horizons]
        assert count(errors, l, t_d, horizons, tolerance) == expected


@pytest.mark.parametrize("t_d", T_D)
def test_phi_is_the_detectors(t_d: int) -> None:
    """Oracle: the detector by which the engine trains Fa-Z-IL."""
    errors = np.concatenate([some_errors(0.6, seed) for seed in range(3)])
    shape = errors[:1].shape
    detector = BufferedDetector(
        torch.zeros(shape, dtype=torch.bool),
        torch.zeros(shape, dtype=torch.int32),
        torch.tensor([[[t_d]]], dtype=torch.int32),
    )
    detector.start()
    heard = [detector.listen(torch.from_numpy(eps[None]))[0].clone() for eps in errors]
    assert np.array_equal(phi(errors, t_d), torch.stack(heard).numpy())


def test_a_number_that_is_none_is_heard() -> None:
    assert phi(np.array([[0.0], [np.nan]]), 1, 1e-3).tolist() == [[False], [True]]


def test_with_equal_errors_a_longer_memory_never_detects_less() -> None:
    """The paper's row falls from 93.4 at t_d = 1 to 92.4 at t_d = 2: its errors were not equal."""
    errors = some_errors(0.6)
    errors[:2] = 0.0  # C1: eps^l is 0 before t = l
    rates = [count(errors, 2, t_d, [STEPS - 1])[0].only_at_l for t_d in T_D]
    assert rates == sorted(rates)
    assert rates[0] < rates[-1]


@pytest.fixture(scope="module")
def watching(digits: Digits, cpu: torch.device) -> DetectionEngine:
    some = Digits(
        digits.train_images[:500],
        digits.train_labels[:500],
        digits.test_images[:100],
        digits.test_labels[:100],
    )
    return DetectionEngine(some, cpu)


@pytest.mark.parametrize("sums", ["fixed", "library"])
def test_the_weights_of_a_stage_are_backprops(watching: DetectionEngine, sums: str) -> None:
    trial = Trial(config(stages=[0, 30], sums=sums), 3)  # an epoch has 25 updates
    bp = Trial(configuration(network="784-16-16-10", rule="BP", sums=sums), 3)
    network = FixedBackprop(bp) if sums == "fixed" else Backprop(bp, torch.device("cpu"))
    batches = [
        batch
        for epoch in (1, 2)
        for batch in watching.data.batches(trial.configuration.training, 3, epoch, noisy=False)
    ]
    for batch in batches[:30]:
        network.update(batch, 0.001)
    result = watching.run([trial])
    assert result.twins == {trial.twin.trial_id: [network_digest(to_numpy(network.parameters()))]}
    assert (result.updates, result.finite) == (30, True)


@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
def test_the_errors_are_those_by_which_fa_z_il_spikes(
    watching: DetectionEngine, activation: str
) -> None:
    """Oracle: the detectors of the Fa-Z-IL trial, step by step."""
    trial = Trial(config(activation=activation, minibatches=1, sums="library"), 3)
    network = Backprop(Trial(trial.configuration.training, 3), torch.device("cpu"))
    errors = watching.errors(trial, network)
    for t_d in (1, 4):
        stack = Stack([Trial(trial.configuration.inference(t_d), 3)], torch.device("cpu"))
        said: list[list[np.ndarray]] = []

        def watch(state: State, said: list[list[np.ndarray]] = said) -> None:
            said.append([each[0].numpy().copy() for each in state.phi])

        [batch] = watching.data.test_batches(trial.configuration.training, 1)
        stack.update({3: batch}, 0.001, watch)
        for l, spikes in enumerate(zip(*said, strict=True)):
            assert np.array_equal(phi(errors[t_d][l], t_d), np.stack(spikes))


def test_the_errors_in_fixed_sums_are_those_of_inference_that_ends_there(
    watching: DetectionEngine,
) -> None:
    """Oracle: for each step, an inference of which that step is the last."""
    trial = Trial(config(activation="relu", minibatches=1), 3)
    bp = FixedBackprop(Trial(trial.configuration.training, 3))
    errors = watching.errors(trial, bp)
    [batch] = watching.data.test_batches(trial.configuration.training, 1)
    chunk = Chunk(batch.inputs.unsqueeze(0), batch.targets.unsqueeze(0), [])
    for t_d, step in product((1, 4), range(2, 9)):
        inference = replace(trial.configuration.inference(t_d), horizon=step)
        network = FixedTrial(Trial(inference, 3))
        network.train(listed(chunk, network.build), 0.001)
        for l, eps in enumerate(network.errors(len(batch.inputs))):
            assert np.array_equal(errors[t_d][l][step], eps.numpy())


def test_relu_misses_where_its_derivative_is_zero_and_sigmoid_does_not(
    watching: DetectionEngine,
) -> None:
    """By Eq. 7, eps^l_{t=l} is gamma f'(x^l) (...). Where f' is 0, eps is exactly 0 and missed."""
    found = {
        name: watching.run([Trial(config(activation=name), 3)]).detected
        for name in ("sigmoid", "relu")
    }
    assert not any(each.counts.early for rows in found.values() for each in rows)
    exact = [each for each in found["sigmoid"] if each.tolerance == 0 and each.t_d >= 4]
    assert all(each.counts.only_at_l == each.counts.pairs for each in exact)
    silent = [each for each in found["relu"] if each.layer > 0 and each.tolerance == 0]
    assert all(each.counts.missed_zero > each.counts.pairs / 10 for each in silent)
    assert not any(each.counts.missed_nonzero for each in silent)


def test_each_way_of_looking_has_its_counts_and_a_run_repeats_itself(
    watching: DetectionEngine,
) -> None:
    trial = Trial(config(), 3)
    shares: list[float] = []
    result = watching.run([trial], report=shares.append, max_width=None)
    assert shares == [0.5, 1.0]
    ways = {(d.stage, d.layer, d.t_d, d.horizon, d.tolerance) for d in result.detected}
    assert ways == set(product((0, 5), (0, 1, 2), T_D, (2, 8), (0.0, 1e-4)))
    assert len(result.detected) == len(ways)
    for each in result.detected:
        counts = each.counts
        assert counts.pairs == each.neurons * 40
        assert counts.pairs == counts.spike_at_l + counts.missed_zero + counts.missed_nonzero
    assert detection_digest(result) == detection_digest(watching.run([trial]))
    still = watching.run([Trial(config(weights="still"), 3)])
    assert still.twins == result.twins
    assert [asdict(each) for each in still.detected] != [asdict(each) for each in result.detected]


def test_more_digits_than_there_are_is_refused(watching: DetectionEngine) -> None:
    with pytest.raises(InputError, match="minibatches 6 of 20 are 120 test digits; there are 100"):
        watching.run([Trial(config(minibatches=6), 3)])
