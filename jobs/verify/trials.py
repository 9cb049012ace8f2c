"""Checks of whole trainings: 200 updates of every rule on made-up digits."""

from collections.abc import Iterator, Mapping
from functools import cache, partial
from itertools import product
from typing import Any

import numpy as np
import torch

from jobs.verify.check import MADE_UP_SEED, Check
from pcworker.data.batches import Chunk, pixels, target_values
from pcworker.data.randomness import Noise
from pcworker.data.streams import Stream
from pcworker.kernels.fixed.gathered import PixelLists
from pcworker.kernels.fixed.library import Build
from pcworker.kernels.fixed.reference import FixedBackprop
from pcworker.kernels.fixed.trial import FixedTrial
from pcworker.trials.configuration import CHOICES, Configuration, configuration
from pcworker.trials.trial import Trial

NETWORK, BATCH, UPDATES = "784-30-17-10", 7, 200
TRIED: Mapping[str, dict[str, Any]] = {
    "BP": {"rule": "BP"},
    "IL": {"rule": "IL", "t": 5, "gamma": 0.3},
    "Z-IL": {"rule": "Z-IL"},
    "Fa-Z-IL": {"rule": "Fa-Z-IL", "horizon": 4},
}


def trainings() -> list[Check]:
    """A check for each rule, f and dtype. The reference is BP, computed by torch.autograd."""
    both = list(product(CHOICES["activation"], CHOICES["dtype"]))
    return [
        *(
            Check(f"{rule} with {f}", dtype, partial(_trained, rule, f, dtype))
            for rule in TRIED
            for f, dtype in both
        ),
        *(
            Check(f"reference with {f}", dtype, partial(_by_autograd, f, dtype))
            for f, dtype in both
        ),
    ]


def varied(rule: str, f: str, dtype: str) -> list[Configuration]:
    """The trials of one check: with and without biases, and, unless the rule is BP, both
    arithmetics, and sigma 0 and 0.1."""
    made = (
        configuration(
            **TRIED[rule], network=NETWORK, batch_size=BATCH, activation=f, dtype=dtype,
            alpha=0.003, init="linear", bias=bias, arithmetic=arithmetic, sigma=sigma,
        )
        for bias, arithmetic, sigma in product((False, True), CHOICES["arithmetic"], (0.0, 0.1))
    )  # fmt: skip
    return list(dict.fromkeys(made))


@cache
def made_up_digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Images uint8 [samples, 784] and labels int64 [samples]. One pixel of four is not 0."""
    samples = UPDATES * BATCH
    drawn = (Stream(MADE_UP_SEED, "pixels").integers(samples * 784) >> np.uint64(54)).astype(
        np.int64
    )
    images = np.maximum(drawn - 768, 0).astype(np.uint8).reshape(samples, 784)
    labels = (Stream(MADE_UP_SEED, "labels").integers(samples) % np.uint64(10)).astype(np.int64)
    return torch.from_numpy(images), torch.from_numpy(labels)


def made_up_minibatches(config: Configuration) -> Chunk:
    """The made-up digits as a trial learns them."""
    images, labels = made_up_digits()
    shape, dtype = (UPDATES, BATCH, -1), getattr(torch, config.dtype)
    noise = Noise(MADE_UP_SEED, 1, config.widths[-2:0:-1])
    return Chunk(
        pixels(images, dtype).reshape(shape),
        target_values(labels, config).reshape(shape),
        [normals.to(dtype) for normals in noise.draw(UPDATES, BATCH)] if config.noisy else [],
    )


def numbers_of(network: FixedTrial | FixedBackprop) -> Iterator[np.ndarray]:
    """The parameters and the squares of the output errors. A network that is not finite has one NaN
    in their place, because its bits are not defined."""
    if network.finite():
        yield from (p.contiguous().numpy() for layer in network.parameters() for p in layer)
        yield network.squares.numpy()
    else:
        yield np.array([np.nan])


def trained(config: Configuration, build: Build, chunk: Chunk) -> FixedTrial:
    """A network after the weight updates of a chunk, by `train` of `phases.c`."""
    network = FixedTrial(Trial(config, MADE_UP_SEED), made=build)
    network.train(PixelLists(chunk, build), config.alpha)
    return network


def _trained(rule: str, f: str, dtype: str, build: Build) -> Iterator[np.ndarray]:
    for config in varied(rule, f, dtype):
        yield from numbers_of(trained(config, build, made_up_minibatches(config)))


def _by_autograd(f: str, dtype: str, build: Build) -> Iterator[np.ndarray]:
    del build  # the reference chooses its own
    for config in varied("BP", f, dtype):
        network = FixedBackprop(Trial(config, MADE_UP_SEED))
        network.train(made_up_minibatches(config), config.alpha)
        yield from numbers_of(network)
