"""A shard of all rules and of two seeds, on few digits: what is hard to stop and to go on with."""

from typing import Any

import numpy as np
import torch

from pcworker.data.mnist import Digits
from pcworker.store.tables import result_digest
from pcworker.training.results import ShardResult
from pcworker.trials.configuration import configuration
from pcworker.trials.trial import Trial

SEEDS = (1482555873, 698841058)
EPOCHS = 4


def few_digits(digits: Digits) -> Digits:
    """So few digits that an epoch is 10 batches of 20 and one of 10."""
    train, test = slice(0, 210), slice(0, 100)
    few = (digits.train_images[train], digits.train_labels[train])
    return Digits(*few, digits.test_images[test], digits.test_labels[test])


def mixed(**common: Any) -> list[Trial]:
    """Trials of all rules and of two seeds, one of which has its BP trial elsewhere.

    In float32 gamma = 5 explodes in the second epoch or later. gamma = 10^6 explodes in the first
    one, in float64 too.
    """
    cells: list[dict[str, Any]] = [
        {"rule": "IL", "t": 64, "gamma": 1e6},
        {"rule": "Z-IL", "sigma": 0.1},
        {"rule": "IL", "t": 3, "gamma": 0.1},
        {"rule": "Fa-Z-IL"},
        {"rule": "IL", "t": 6, "gamma": 5.0},
        {"rule": "Z-IL"},
    ]
    common = {"network": "784-32-32-10", "alpha": 0.05, "epochs": EPOCHS} | common
    stacked = [Trial(configuration(**cell, **common), seed) for cell in cells for seed in SEEDS]
    return [*stacked[:3], Trial(configuration(rule="BP", **common), SEEDS[0]), *stacked[3:]]


CASES: dict[str, dict[str, Any]] = {
    "float32": {},
    "float64 with biases": {"dtype": "float64", "bias": True},
    "textbook tanh": {"arithmetic": "textbook", "activation": "tanh", "alpha": 0.001},
    "twins that explode": {"alpha": 0.5, "bias": True},
    "library": {"sums": "library"},
    "alone": {"network": "784-30-17-10", "bias": True, "sums": "library"},
}


def assert_same(ours: ShardResult, undisturbed: ShardResult) -> None:
    assert result_digest(ours) == result_digest(undisturbed)
    for a, b in zip(ours.trials, undisturbed.trials, strict=True):
        assert a.trial == b.trial
        assert (a.nonfinite_epoch, a.updates) == (b.nonfinite_epoch, b.updates)
        for layer, other in zip(a.parameters, b.parameters, strict=True):
            for x, y in zip(layer, other, strict=True):
                assert np.array_equal(x, y) and x.dtype == y.dtype
                assert torch.equal(torch.from_numpy(x), torch.from_numpy(y))
    assert (ours.twins, ours.packing) == (undisturbed.twins, undisturbed.packing)
