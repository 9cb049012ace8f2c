"""What the engine reports of a training: metrics, twins, trials that explode."""

import math

import numpy as np
import pytest
import torch

from pcworker.data.randomness import batch_order, initial_parameters
from pcworker.kernels.kernel import Kernel, Task
from pcworker.kernels.probe import Probe
from pcworker.kernels.torch_operations import TorchKernel
from pcworker.store.tables import result_digest
from pcworker.training.engine import Engine
from pcworker.training.results import EpochMetrics, TrialResult
from pcworker.trials.configuration import configuration
from pcworker.trials.digests import network_digest
from pcworker.trials.trial import Trial

SEED = 1482555873


def trial(**values: object) -> Trial:
    return Trial(configuration(**({"network": "784-32-32-10"} | values)), SEED)


def run_one(engine: Engine, **values: object) -> TrialResult:
    return engine.run([trial(**values)]).trials[0]


def test_t_64_with_gamma_5_or_10_is_nonfinite_at_the_first_update(small_engine: Engine) -> None:
    """(gamma - 1)^64 is 3.4e38 and 1.2e61: beyond float32."""
    wild = [trial(rule="IL", t=64, gamma=gamma, epochs=2) for gamma in (5.0, 10.0)]
    calm = trial(rule="IL", t=64, gamma=0.5, epochs=2)
    results = small_engine.run([*wild, calm]).trials
    for result in results[:2]:
        assert (result.status, result.nonfinite_epoch, result.updates) == ("nonfinite", 1, 1)
        assert result.epochs == [EpochMetrics(), EpochMetrics()]
        assert result.parameters == []
    alone = small_engine.run([calm]).trials[0]
    assert results[2].status == "done" and results[2].updates == 100
    assert results[2].epochs == alone.epochs
    assert network_digest(results[2].parameters) == network_digest(alone.parameters)


def test_a_trial_that_explodes_later_keeps_the_epochs_before(small_engine: Engine) -> None:
    result = run_one(small_engine, rule="Z-IL", gamma=10.0, alpha=0.2, epochs=6)
    assert result.status == "nonfinite"
    first = result.nonfinite_epoch
    assert first is not None
    finite = [metrics.test_error is not None for metrics in result.epochs]
    assert finite == [epoch < first for epoch in range(1, 7)]


def test_an_exploding_twin_leaves_its_trials_without_a_distance(small_engine: Engine) -> None:
    twin = trial(rule="BP", alpha=50.0, activation="relu", init="glorot4")
    still = trial(rule="IL", t=0, alpha=50.0, activation="relu", init="glorot4", gamma=1.0)
    results = small_engine.run([twin, still]).trials
    assert results[0].status == "nonfinite" and results[0].parameters == []
    for metrics in results[1].epochs:
        assert metrics.twin_test_error is None and metrics.weight_l2_to_twin is None


def test_metrics_are_what_they_say(small_engine: Engine, digits) -> None:
    """Oracle: NumPy, from the final weights and the definition of each column."""
    result = run_one(small_engine, rule="IL", t=3, gamma=0.5, epochs=2)
    twin = run_one(small_engine, rule="BP", epochs=2)
    x = digits.test_images[:500] / np.float32(255)
    for r in (result, twin):
        (w1,), (w2,), (w3,) = r.parameters
        sigmoid = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
        outputs = sigmoid(sigmoid(x @ w3.T) @ w2.T) @ w1.T
        error = float((outputs.argmax(1) != digits.test_labels[:500]).mean())
        assert r.epochs[-1].test_error == pytest.approx(error, abs=0.0021)
    differences = [
        np.asarray(a[0], np.float64) - b[0]
        for a, b in zip(result.parameters, twin.parameters, strict=True)
    ]
    last = result.epochs[-1]
    assert last.weight_l2_to_twin == pytest.approx(sum(np.linalg.norm(d) for d in differences))
    assert last.weight_l1_to_twin == pytest.approx(sum(np.abs(d).sum() for d in differences))
    assert last.weight_maxabs_to_twin == max(np.abs(d).max() for d in differences)
    assert last.twin_test_error == twin.epochs[-1].test_error


def test_train_energy_is_the_mean_loss_before_each_update(small_engine: Engine) -> None:
    """Oracle: the loss that autograd sees, summed batch by batch; the last batch is smaller."""
    config = configuration(rule="BP", batch_size=30, dtype="float64", network="784-32-10")
    result = small_engine.run([Trial(config, SEED)]).trials[0]
    (w1,), (w2,) = (la for la in initial_parameters(config, SEED))
    w1, w2 = w1.clone().requires_grad_(), w2.clone().requires_grad_()
    total, samples = 0.0, 0
    for batch in small_engine.data.batches(config, SEED, 1, noisy=False):
        out = torch.sigmoid(batch.inputs @ w2.T) @ w1.T
        loss = 0.5 * ((batch.targets - out) ** 2).sum()
        loss.backward()
        with torch.no_grad():
            for w in (w1, w2):
                w -= 0.001 * w.grad
                w.grad = None
        total, samples = total + loss.item(), samples + len(batch.inputs)
    assert samples == 1000
    assert result.epochs[0].train_energy == pytest.approx(total / 1000, rel=1e-12)
    assert result.updates == math.ceil(1000 / 30)


def test_every_epoch_sees_every_digit_once_in_an_order_of_its_own() -> None:
    orders = [batch_order(SEED, epoch, 1000) for epoch in (1, 2)]
    assert all(torch.equal(order.sort().values, torch.arange(1000)) for order in orders)
    assert not torch.equal(*orders)
    assert torch.equal(orders[0], batch_order(SEED, 1, 1000))
    assert not torch.equal(orders[0], batch_order(SEED + 1, 1, 1000))


def test_the_copies_of_a_twin_have_the_digests_of_the_trial_itself(small_engine: Engine) -> None:
    own = small_engine.run([trial(rule="BP", epochs=3)])
    copy = small_engine.run([trial(rule="IL", t=2, gamma=0.5, epochs=3)])
    assert own.twins == copy.twins
    (digests,) = own.twins.values()
    assert len(set(digests)) == 3
    assert digests[-1] == network_digest(own.trials[0].parameters)


def test_training_is_reproducible(small_engine: Engine) -> None:
    first, second = (run_one(small_engine, rule="Z-IL", sigma=0.1, epochs=2) for _ in range(2))
    assert first.epochs == second.epochs
    assert network_digest(first.parameters) == network_digest(second.parameters)


def test_another_kernel_is_one_more_in_the_list_of_kernels(
    small_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training asks no kernel which it is: it needs what `Kernel` has, and nothing else."""

    class Mine:
        name = "mine"

        def __init__(self, task: Task, probe: Probe) -> None:
            self._torch = TorchKernel(task, probe)

        def __getattr__(self, member: str) -> object:
            assert member in Kernel.__dict__, f"{member} is not part of the seam"
            return getattr(self._torch, member)

    common = {"rule": "IL", "epochs": 2, "sums": "library"}
    trials = [trial(t=3, **common), trial(t=64, gamma=10.0, **common)]
    usual = small_engine.run(trials)
    monkeypatch.setattr("pcworker.kernels.choice.KERNELS", (lambda task, probe: None, Mine))
    mine = small_engine.run(trials)
    assert mine.kernel == "mine"
    assert result_digest(mine) == result_digest(usual)


def test_progress_goes_from_0_to_1(small_engine: Engine) -> None:
    shares: list[float] = []
    small_engine.run([trial(rule="Z-IL", epochs=3)], report=shares.append)
    assert shares == sorted(shares) and len(shares) >= 3
    assert shares[0] >= 0 and shares[-1] <= 1


@pytest.mark.gpu
def test_z_il_is_exact_on_a_gpu_too(digits) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    engine = Engine(digits, torch.device("cuda", 0))
    result = engine.run([trial(rule="Z-IL"), trial(rule="BP"), trial(rule="IL", t=2)])
    assert result.trials[0].epochs[-1].weight_maxabs_to_twin == 0.0
