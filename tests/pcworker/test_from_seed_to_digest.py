"""A shard's digests and metrics are the page's: weights, order, noise, training, test error, all.

The oracle is `by_the_page`, written from the README file of `pcworker.kernels.fixed` alone, with
exact fractions. Nothing of ours is used but the engine that is tested.
"""

import math
from itertools import pairwise
from typing import Any

import by_the_page
import numpy as np
import pytest
import torch

from pcworker.data.mnist import Digits
from pcworker.training.engine import Engine
from pcworker.trials.configuration import Configuration, configuration
from pcworker.trials.trial import Trial

SEED, SAMPLES, TESTS, BATCH, EPOCHS = 5, 23, 11, 7, 2
"""The last minibatch of an epoch has two samples."""
CELLS: list[dict[str, Any]] = [
    {"rule": "Z-IL"},
    {"rule": "Z-IL", "sigma": 0.3, "gamma": 0.7, "init": "linear", "bias": True},
    {"rule": "IL", "t": 3, "gamma": 0.4, "activation": "tanh", "targets": "soft"},
    {"rule": "Fa-Z-IL", "sigma": 0.1, "dtype": "float64", "reduction": "mean", "alpha": 0.7},
]
Theta = list[tuple[list[list[float]], list[float] | None]]


def made_up_digits() -> Digits:
    """Images of 20 pixels, half of which are 0, and labels 0, 1 and 2."""
    source = np.random.default_rng(1)

    def images(count: int) -> np.ndarray:
        drawn = source.integers(-255, 256, (count, 20))
        return np.clip(drawn, 0, None).astype(np.uint8)

    labels = [source.integers(0, 3, count).astype(np.uint8) for count in (SAMPLES, TESTS)]
    return Digits(images(SAMPLES), labels[0], images(TESTS), labels[1])


def drawn_weights(c: Configuration) -> Theta:
    """By the section of the page about random numbers."""
    r = by_the_page.Arithmetic(int(c.dtype[-2:]))
    widths = c.widths
    counts = [n * m + (n if c.bias and c.init == "linear" else 0) for n, m in pairwise(widths)]
    numbers = iter(by_the_page.stream(SEED, "weights", 0, sum(counts)))
    layers: Theta = []
    for n, m in reversed(list(pairwise(widths))):
        glorot = math.sqrt(6 / (n + m))
        bound = {"xavier": glorot, "linear": 1 / math.sqrt(m), "glorot4": 4 * glorot}[c.init]

        def draw(bound: float = bound) -> float:
            return r.number(by_the_page.uniform(next(numbers), bound))

        theta = [[draw() for _ in range(m)] for _ in range(n)]
        bias = [draw() if c.init == "linear" else 0.0 for _ in range(n)] if c.bias else None
        layers.append((theta, bias))
    return layers[::-1]


def by_page(c: Configuration, theta: Theta) -> by_the_page.Network:
    return by_the_page.Network(
        theta, bits=int(c.dtype[-2:]), f=c.activation, rule=c.rule, t=c.t, t_d=c.t_d,
        horizon=c.horizon, gamma=c.gamma, sigma=c.sigma, arithmetic=c.arithmetic,
        layerwise=c.schedule == "layerwise",
    )  # fmt: skip


def pixels(c: Configuration, images: np.ndarray) -> list[list[float]]:
    r = by_the_page.Arithmetic(int(c.dtype[-2:]))
    return [[r.div(float(v), 255.0) for v in image] for image in images]


def train_an_epoch(c: Configuration, network: by_the_page.Network, data: Digits, epoch: int) -> Any:
    """Returns the sums of squares by place in a batch."""
    order = by_the_page.order(SEED, epoch, SAMPLES)
    r = by_the_page.Arithmetic(int(c.dtype[-2:]))
    low, high = {"onehot": (0.0, 1.0), "soft": (0.03, 0.97)}[c.targets]
    hidden = range(c.l_max - 1, 0, -1)
    units = sum(c.widths[l] for l in hidden)
    numbers = by_the_page.stream(SEED, "noise", epoch, 2 * (SAMPLES * units // 2 + 1))
    pairs = zip(numbers[::2], numbers[1::2], strict=True)
    normals = iter([r.number(n) for z, w in pairs for n in by_the_page.normals(z, w)])
    total = [[0.0] * c.widths[0] for _ in range(BATCH)]
    for start in range(0, SAMPLES, BATCH):
        chosen = order[start : start + BATCH]
        targets = [
            [r.number(high if k == data.train_labels[i] else low) for k in range(3)] for i in chosen
        ]
        noise = {l: [[next(normals) for _ in range(c.widths[l])] for _ in chosen] for l in hidden}
        rate = c.alpha / len(chosen) if c.reduction == "mean" else c.alpha
        network.squares = []
        network.update(pixels(c, data.train_images[chosen]), targets, noise, rate)
        for row, more in zip(total, network.squares, strict=False):
            row[:] = [a + b for a, b in zip(row, more, strict=True)]
    return total


def wrong(c: Configuration, network: by_the_page.Network, data: Digits) -> float:
    """The test error: a fresh copy predicts, as at the start of an update at rate 0."""
    theta = list(zip(network.theta, network.bias, strict=True))
    inputs = pixels(c, data.test_images)
    copy = by_page(c.twin(), theta)
    zeros = [[0.0] * c.widths[0] for _ in inputs]
    copy.squares = []
    copy.update(inputs, zeros, {}, 0.0)
    right = 0
    for outputs, label in zip(copy.mu[0], data.test_labels, strict=True):
        mine = outputs[label]
        right += all(mine > o for o in outputs[:label]) and all(mine >= o for o in outputs[label:])
    return (TESTS - right) / TESTS


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_shard_has_the_pages_digests_and_metrics(cell: dict[str, Any]) -> None:
    common = {"network": "20-7-5-3", "alpha": 0.1, "batch_size": BATCH, "epochs": EPOCHS}
    c = configuration(**(common | cell))
    trial, data = Trial(c, SEED), made_up_digits()
    result = Engine(data, torch.device("cpu")).run([trial])
    ours, theirs = by_page(c, drawn_weights(c)), by_page(c.twin(), drawn_weights(c))
    bits = int(c.dtype[-2:])
    for epoch in range(1, EPOCHS + 1):
        squares = train_an_epoch(c, ours, data, epoch)
        train_an_epoch(c.twin(), theirs, data, epoch)
        networks = [list(zip(n.theta, n.bias, strict=True)) for n in (ours, theirs)]
        digests = [by_the_page.digest(network, bits) for network in networks]
        found = result.trials[0].epochs[epoch - 1]
        assert result.twins[trial.twin.trial_id][epoch - 1] == digests[1]
        assert found.train_energy == by_the_page.energy(squares, SAMPLES)
        assert found.test_error == wrong(c, ours, data)
        assert found.twin_test_error == wrong(c.twin(), theirs, data)
        apart = (found.weight_l2_to_twin, found.weight_l1_to_twin, found.weight_maxabs_to_twin)
        assert apart == by_the_page.distance(*networks)
    final = result.trials[0].parameters
    as_lists = [(layer[0].tolist(), layer[1].tolist() if c.bias else None) for layer in final]
    assert by_the_page.digest(as_lists, bits) == digests[0]
    assert (digests[0] == digests[1]) == (c.rule == "Z-IL" and c.gamma == 1)
