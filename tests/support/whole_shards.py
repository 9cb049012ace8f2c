"""Shards of every rule, trained for two epochs by a kernel, and all that is known of them then."""

import numpy as np

from pcworker.data.mnist import Digits
from pcworker.kernels.kernel import Kernel, Look
from pcworker.trials.configuration import configuration
from pcworker.trials.digests import network_digest
from pcworker.trials.measures import energy, to_numpy
from pcworker.trials.trial import Trial

EPOCHS = 2
NETWORKS: list[dict[str, object]] = [
    {"network": "784-32-32-10"},
    {"network": "784-30-17-10", "batch_size": 7, "bias": True, "reduction": "mean"},
    {"network": "784-32-10", "dtype": "float64", "activation": "tanh", "init": "linear"},
    {"network": "784-40-33-10", "batch_size": 24},
    {"network": "784-16-16-16-10", "activation": "relu", "arithmetic": "textbook"},
]


def digits(samples: int) -> Digits:
    """Digits of which one pixel of five is not 0, and 45 for the test."""
    random = np.random.default_rng(0)

    def images(count: int) -> np.ndarray:
        drawn = random.integers(256, size=(count, 784), dtype=np.uint8)
        return np.where(random.random((count, 784)) < 0.2, drawn, np.uint8(0))

    labels = [random.integers(10, size=count, dtype=np.uint8) for count in (samples, 45)]
    return Digits(images(samples), labels[0], images(45), labels[1])


def trials(common: dict[str, object]) -> list[Trial]:
    """Every rule, two seeds, noise, a BP trial, and a trial that does not stay finite."""
    cells: list[tuple[int, dict[str, object]]] = [
        (1, {"rule": "Z-IL"}),
        (1, {"rule": "Z-IL", "gamma": 0.5, "sigma": 0.1}),
        (1, {"rule": "IL", "t": 5, "gamma": 0.5}),
        (2, {"rule": "IL", "t": 3}),
        (1, {"rule": "Fa-Z-IL"}),
        (1, {"rule": "BP"}),
        (1, {"rule": "IL", "t": 64, "gamma": 20.0}),
    ]
    return [Trial(configuration(**common, **cell), seed) for seed, cell in cells]  # type: ignore[arg-type]


def heed(
    look: Look, epoch: int, kernel: Kernel, trials_: list[Trial], lost: dict[Trial, int]
) -> None:
    """Drops the trials that are not finite any more, and adds to `lost` when that was seen."""
    fresh = {trial: at for trial, at in look.nonfinite.items() if trial not in lost}
    lost |= {trial: 1000 * epoch + at for trial, at in fresh.items()}
    kernel.drop([trial for trial in fresh if trial in trials_])


def trained(kernel: Kernel, trials_: list[Trial], samples: int) -> dict[Trial, object]:
    """What is known of every trial after two epochs, and of those that are not finite any more."""
    lost: dict[Trial, int] = {}
    for epoch in range(1, EPOCHS + 1):
        for look in kernel.train_epoch(epoch):
            heed(look, epoch, kernel, trials_, lost)
    return known(kernel, lost, samples)


def known(kernel: Kernel, lost: dict[Trial, int], samples: int) -> dict[Trial, object]:
    found: dict[Trial, object] = dict(lost)
    for trial, network in kernel.networks.items():
        measured = (kernel.test_error(trial), kernel.distance(trial))
        digest = network_digest(to_numpy(network.parameters()))
        found[trial] = (digest, *measured, energy(network.squares, samples))
    return found
