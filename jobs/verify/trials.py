"""Checks of whole trainings: 200 updates of every rule on made-up digits."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jobs.verify.check import MADE_UP_SEED, Check
from pcworker.data.batches import Chunk, pixels, target_values
from pcworker.data.randomness import Noise
from pcworker.data.streams import Stream
from pcworker.kernels.fixed.gathered import listed
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
            Check(training_title(rule, f), dtype, partial(_trained, rule, f, dtype))
            for rule in TRIED
            for f, dtype in both
        ),
        *(Check(reference_title(f), dtype, partial(_by_autograd, f, dtype)) for f, dtype in both),
    ]


def training_title(rule: str, f: str) -> str:
    """What the check of a rule with f is called."""
    return f"{rule} with {f}"


def reference_title(f: str) -> str:
    """What the check of the reference with f is called."""
    return f"reference with {f}"


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


def numbers_of(parameters: Sequence[Sequence[Tensor]], squares: Tensor) -> Iterator[np.ndarray]:
    """The parameters of a network and the squares of its output errors, in main memory. A network
    that is not finite has one NaN in their place, because its bits are not defined."""
    every = [parameter.cpu() for layer in parameters for parameter in layer]
    if all(bool(torch.isfinite(parameter).all()) for parameter in every):
        yield from (parameter.contiguous().numpy() for parameter in every)
        yield squares.cpu().numpy()
    else:
        yield np.array([np.nan])


def trained(config: Configuration, build: Build, chunk: Chunk) -> FixedTrial:
    """A network after the weight updates of a chunk, by `train` of `phases.c`."""
    network = FixedTrial(Trial(config, MADE_UP_SEED), made=build)
    network.train(listed(chunk, build), config.alpha)
    return network


def _trained(rule: str, f: str, dtype: str, build: Build) -> Iterator[np.ndarray]:
    for config in varied(rule, f, dtype):
        network = trained(config, build, made_up_minibatches(config))
        yield from numbers_of(network.parameters(), network.squares)


def _by_autograd(f: str, dtype: str, build: Build) -> Iterator[np.ndarray]:
    del build  # the reference chooses its own
    for config in varied("BP", f, dtype):
        network = FixedBackprop(Trial(config, MADE_UP_SEED))
        network.train(made_up_minibatches(config), config.alpha)
        yield from numbers_of(network.parameters(), network.squares)
