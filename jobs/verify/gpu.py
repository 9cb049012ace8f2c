"""The checks of whole trainings, made on a GPU: they have the digests of the CPU's checks."""

from collections.abc import Iterator
from functools import partial
from itertools import product

import numpy as np
import torch
from torch import Tensor

from jobs.verify.check import MADE_UP_SEED, Check
from jobs.verify.trials import (
    BATCH,
    TRIED,
    UPDATES,
    made_up_digits,
    numbers_of,
    reference_title,
    training_title,
    varied,
)
from pcworker.kernels.cuda.gpu import Gpu
from pcworker.kernels.cuda.launch import Launcher
from pcworker.kernels.cuda.memory import TrialsMemory
from pcworker.kernels.cuda.minibatches import Gatherer, Images, Minibatches, on_gpu
from pcworker.kernels.cuda.reference import CudaBackprop
from pcworker.kernels.program import program
from pcworker.trials.configuration import CHOICES, Configuration
from pcworker.trials.trial import Trial


def trainings_on(gpu: Gpu) -> list[Check]:
    """The checks of `trials.trainings`, with the same titles, on a GPU."""
    both = list(product(CHOICES["activation"], CHOICES["dtype"]))
    return [
        *(
            Check(training_title(rule, f), dtype, partial(_trained, gpu, rule, f, dtype))
            for rule in TRIED
            for f, dtype in both
        ),
        *(
            Check(reference_title(f), dtype, partial(_by_autograd, gpu, f, dtype))
            for f, dtype in both
        ),
    ]


def sample_checks(gpu: Gpu) -> list[Check]:
    """One check of each rule, which take a sanitizer a minute or two."""
    return [
        Check(
            training_title(rule, "sigmoid"),
            "float32",
            partial(_trained, gpu, rule, "sigmoid", "float32"),
        )
        for rule in TRIED
    ]


def _trained(gpu: Gpu, rule: str, f: str, dtype: str, build: object = None) -> Iterator[np.ndarray]:
    del build  # it is a CPU's
    for config in varied(rule, f, dtype):
        trial = Trial(config, MADE_UP_SEED)
        with gpu.stream():
            launcher = Launcher(gpu, config)
            memory = TrialsMemory([trial], gpu.device, launcher.whole)
            batches = {trial.seed: _minibatches(gpu, config)}
            structs = memory.structs([(trial, program(trial))], config.alpha)
            work = launcher.prepare(structs, batches)
            launcher.start(work)
        gpu.wait()
        yield from numbers_of(memory.parameters(0), memory.squares[0])


def _by_autograd(gpu: Gpu, f: str, dtype: str, build: object = None) -> Iterator[np.ndarray]:
    del build
    for config in varied("BP", f, dtype):
        trial = Trial(config, MADE_UP_SEED)
        backprop = CudaBackprop(gpu, [trial], _images(gpu), Gatherer(gpu, config))
        backprop.train({trial.seed: _order()}, config.alpha, [UPDATES])
        network = backprop.networks[trial]
        yield from numbers_of(network.parameters(), network.squares)


def _minibatches(gpu: Gpu, config: Configuration) -> Minibatches:
    gatherer = Gatherer(gpu, config)
    shape = (UPDATES, BATCH)
    noise = gatherer.noise(MADE_UP_SEED, 1, 0, *shape) if config.noisy else ()
    return gatherer.minibatches(_images(gpu), _order(), noise)


def _images(gpu: Gpu) -> Images:
    return on_gpu(*(part.to(gpu.device) for part in made_up_digits()))


def _order() -> Tensor:
    """The made-up digits in their order: int64 [updates, B]."""
    return torch.arange(UPDATES * BATCH).reshape(UPDATES, BATCH)
