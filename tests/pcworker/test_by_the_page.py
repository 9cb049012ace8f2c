"""`phases.c` has the bits that the page of its arithmetic defines.

The oracle is `by_the_page`, an implementation of pcworker/kernels/fixed/README.md alone, in which
every operation is computed on whole numbers and rounded once. Weights are compared after each of 20
updates of small networks, with pixels of 0 and a smaller last batch.
"""

import by_the_page
import numpy as np
import pytest
import torch
from torch import Tensor

from pcworker.data.batches import Chunk
from pcworker.kernels.fixed.gathered import listed
from pcworker.kernels.fixed.trial import FixedTrial
from pcworker.trials import measures
from pcworker.trials.configuration import configuration
from pcworker.trials.trial import Trial

UPDATES = 20
RELU = {"activation": "relu", "init": "xavier", "alpha": 0.01}
CELLS = [
    {"rule": "BP"},
    {"rule": "BP", "bias": True, "activation": "tanh", "dtype": "float64"},
    {"rule": "Z-IL", "bias": True},
    {"rule": "Z-IL", "sigma": 0.3, "arithmetic": "textbook", **RELU},
    {"rule": "Z-IL", "activation": "tanh", "gamma": 0.7, "schedule": "literal"},
    {"rule": "Z-IL", "dtype": "float64"},
    {"rule": "IL", "t": 0},
    {"rule": "IL", "t": 4, "gamma": 0.3, "bias": True, "activation": "tanh"},
    {"rule": "IL", "t": 3, "gamma": 5.0, "sigma": 0.1, "dtype": "float64", **RELU},
    {"rule": "IL", "t": 3, "gamma": 0.5, "arithmetic": "textbook"},
    {"rule": "Fa-Z-IL"},
    {"rule": "Fa-Z-IL", "schedule": "layerwise", **RELU},
    {"rule": "Fa-Z-IL", "sigma": 0.2, "t_d": 1, "horizon": 5, "gamma": 0.5, **RELU},
    {"rule": "IL", "t": 3, "gamma": 5.0, "activation": "relu", "alpha": 0.5},  # blows up
    {"rule": "Z-IL", "network": "9-4"},
    {"rule": "IL", "network": "9-4-3-5-2", "t": 4, "gamma": 0.9, "dtype": "float64"},
]


def made_up(widths: tuple[int, ...], updates: int, batch: int, dtype: torch.dtype) -> Chunk:
    """Minibatches of sparse pixels, targets and normals. The first width is the output layer's."""
    source = torch.Generator().manual_seed(5)
    pixels = torch.randint(-200, 256, (updates, batch, widths[-1]), generator=source).clamp(0)
    labels = torch.randint(widths[0], (updates, batch), generator=source)
    noise = [
        torch.randn(updates, batch, n, generator=source, dtype=torch.float64).to(dtype)
        for n in widths[-2:0:-1]
    ]
    targets = torch.nn.functional.one_hot(labels, widths[0])
    return Chunk(pixels.to(dtype) / 255, targets.to(dtype), noise)


def same(ours: Tensor, theirs: list) -> bool:
    """True if all numbers are equal, where NaN equals NaN and -0 equals 0."""
    expected = torch.tensor(theirs, dtype=torch.float64)
    return bool(((ours == expected) | (ours.isnan() & expected.isnan())).all())


def by_page(trial: Trial, parameters: list[list[Tensor]]) -> by_the_page.Network:
    c = trial.configuration
    as_lists = [(w.tolist(), b[0].tolist() if b else None) for w, *b in parameters]
    return by_the_page.Network(
        as_lists, bits=int(c.dtype[-2:]), f=c.activation, rule=c.rule, t=c.t, t_d=c.t_d,
        horizon=c.horizon, gamma=c.gamma, sigma=c.sigma, arithmetic=c.arithmetic,
        layerwise=c.schedule == "layerwise",
    )  # fmt: skip


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_every_rule_has_the_pages_bits(cell: dict) -> None:
    config = configuration(**({"network": "20-7-5-3", "init": "glorot4", "alpha": 0.05} | cell))
    trial = Trial(config, seed=3)
    ours = FixedTrial(trial, batch=3)
    oracle = by_page(trial, ours.parameters())
    chunk = made_up(config.widths, UPDATES, 3, getattr(torch, config.dtype))
    for update in range(UPDATES):
        size = 2 if update == UPDATES - 1 else 3
        one = Chunk(*(_one(part, update, size) for part in chunk))
        ours.train(listed(one, ours.build), config.alpha)
        noise = dict(zip(range(config.l_max - 1, 0, -1), one.noise, strict=True))
        oracle.update(
            one.inputs[0].tolist(),
            one.targets[0].tolist(),
            {l: normal[0].tolist() for l, normal in noise.items()},
            config.alpha,
        )
        for layer, theta, bias in zip(ours.parameters(), oracle.theta, oracle.bias, strict=True):
            assert same(layer[0], theta), update
            assert bias is None or same(layer[1], bias), update
        assert same(ours.squares[:size], oracle.squares)
        oracle.squares = oracle.squares[: 2 if update == UPDATES - 2 else 3]  # the next one's size


def _one(part: object, update: int, size: int) -> object:
    if isinstance(part, list):
        return [each[update : update + 1, :size] for each in part]
    return part[update : update + 1, :size]


@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e160])
def test_distances_and_energies_are_the_pages(scale: float) -> None:
    """Squares of the smallest and largest differences under- and overflow."""
    source = np.random.default_rng(8)
    shapes = [((7, 5), (7,)), ((5, 31), (5,))]
    ours, theirs = (
        [[source.normal(size=s) * scale for s in layer] for layer in shapes] for _ in range(2)
    )
    as_lists = [[(w.tolist(), b.tolist()) for w, b in network] for network in (ours, theirs)]
    assert tuple(measures.distance(ours, theirs)) == by_the_page.distance(*as_lists)
    squares = torch.rand(20, 10, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert measures.energy(squares, 777) == by_the_page.energy(squares.tolist(), 777)
