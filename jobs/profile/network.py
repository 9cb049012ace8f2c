"""Times the work of a sweep on one core: each trial of a network by itself, and shared work."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from pcworker.clock.turns import spread, without_garbage_collection
from pcworker.data.batches import CHUNK, Chunk
from pcworker.data.dataset import DataSet
from pcworker.equations.rules import Z_IL
from pcworker.kernels.fixed.evaluation import FixedTest
from pcworker.kernels.fixed.gathered import PixelLists
from pcworker.kernels.fixed.kernel import FixedKernel
from pcworker.kernels.fixed.reference import FixedBackprop
from pcworker.kernels.fixed.trial import FixedTrial
from pcworker.kernels.kernel import Task
from pcworker.trials.configuration import Configuration, configuration
from pcworker.trials.measures import distance, to_numpy
from pcworker.trials.trial import Trial

P = ParamSpec("P")
_T = TypeVar("_T")


@dataclass(frozen=True)
class NetworkTimes:
    """The times of one network, in microseconds of one core; each is a median over rounds."""

    update: dict[Configuration, float]
    """The time of a weight update, by configuration. BP's includes its minibatch. It is 0 for a
    trial that stops after the first update, because its weights are not finite."""
    copy: float
    """The time of a weight update of a copy of BP."""
    batch: float
    """The time of making a batch for one seed."""
    noisy_batch: float
    """The time of making a batch and the noise of condition C1 for one seed."""
    epoch: float
    """The time of measuring a trial after an epoch."""
    pixels: float
    """Not a time: the mean number of pixels of a batch that are not 0."""


class Clock:
    """Times many kinds of work, each of them many times, by the core's time for this process."""

    def __init__(self) -> None:
        self._taken: dict[object, list[float]] = {}

    def of(self, what: object, work: Callable[P, _T], *given: P.args, **named: P.kwargs) -> _T:
        """Calls `work` with the given arguments, and notes its time under `what`."""
        started = time.process_time()
        done = work(*given, **named)
        self._taken.setdefault(what, []).append(time.process_time() - started)
        return done

    def median(self, what: object) -> float:
        """The median time of `what`, in microseconds; 0 if it was never done."""
        return 1e6 * spread(self._taken[what]).median if what in self._taken else 0.0


def time_network(trials: Sequence[Trial], data: DataSet, rounds: int) -> NetworkTimes:
    """Times trials of one network and one seed. In each round, every trial in turn makes 100 weight
    updates, with the batches of one epoch.

    Raises InputError if `phases.c`, which trains them, cannot be compiled.
    """
    task = Task(data, trials)
    config, [twin], rate = task.config, task.twins, task.config.alpha
    members = [FixedTrial(trial) for trial in task.inferring]
    copy, backprop = FixedTrial(twin), FixedBackprop(twin)
    test, clock, pixels = FixedTest(data, config), Clock(), 0.0
    plain, noisy = (_minibatches(data, twin, sigma) for sigma in (0.0, 0.1))
    chunks = data.chunks(config, twin.seed, 1, noisy=False)
    # the first chunk of an epoch holds only one update
    first, *_ = next(noisy), next(plain), next(chunks)
    for member in members:
        member.train(first, rate)

    def learn() -> Chunk:
        chunk = next(chunks)
        backprop.train(chunk, rate)
        return chunk

    def measure(parameters: Sequence[Sequence[Tensor]]) -> None:
        test.error(parameters)
        ours = to_numpy(parameters)
        distance(ours, ours)

    with without_garbage_collection():
        for _ in range(rounds):
            clock.of("batch", next, plain)
            batches = clock.of("noisy", next, noisy)
            for member in [member for member in members if member.finite()]:
                clock.of(member.trial.configuration, member.train, batches, rate)
            clock.of("copy", copy.train, batches, rate)
            chunk = clock.of(config, learn)
            pixels += float(torch.count_nonzero(chunk.inputs)) / CHUNK / rounds
            clock.of("epoch", measure, copy.parameters())
    return NetworkTimes(
        {trial.configuration: clock.median(trial.configuration) / CHUNK for trial in trials},
        copy=clock.median("copy") / CHUNK,
        batch=clock.median("batch") / CHUNK,
        noisy_batch=clock.median("noisy") / CHUNK,
        epoch=clock.median("epoch"),
        pixels=pixels,
    )


def _minibatches(data: DataSet, twin: Trial, sigma: float) -> Iterator[PixelLists]:
    """The minibatches of an epoch as `phases.c` reads them, with noise unless sigma is 0."""
    config = configuration(network=twin.configuration.network, rule=Z_IL.name, sigma=sigma)
    kernel = FixedKernel(Task(data, [Trial(config, twin.seed)]))
    return (each.lists[twin.seed] for each in kernel.minibatches(1))
