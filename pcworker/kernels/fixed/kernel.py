"""The kernel of `phases.c`: it trains every trial alone, and the copies of twins too."""

from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch

from pcworker.data.batches import Chunk, chunk_sizes, epoch_orders, target_values
from pcworker.data.randomness import Noise
from pcworker.kernels.fixed.evaluation import FixedTest
from pcworker.kernels.fixed.gathered import PixelLists, training_lists
from pcworker.kernels.fixed.reference import FixedBackprop
from pcworker.kernels.fixed.stream import CompiledStream
from pcworker.kernels.fixed.trial import FixedTrial
from pcworker.kernels.kernel import ChunkKernel, Network, Task, most_careful
from pcworker.trials.trial import Trial


class ListedBatches(NamedTuple):
    """Some minibatches of each seed."""

    lists: Mapping[int, PixelLists]
    """By seed of which `phases.c` trains a trial."""
    chunks: Mapping[int, Chunk]
    """By seed of which torch.autograd trains the BP trial."""


class FixedKernel(ChunkKernel[ListedBatches]):
    """Trains a task by `phases.c`. The BP trials of the task are left to torch.autograd, because
    they are the reference.

    There are as many threads as torch has, and each trains a trial at a time.
    """

    name = "phases.c"

    def __init__(self, task: Task) -> None:
        """Raises InputError where there is no compiler."""
        super().__init__(task)
        self.packing = most_careful({task.packing})
        self._inferring = {t: FixedTrial(t) for t in (*task.inferring, *task.copies)}
        self._autograd = {t: FixedBackprop(t) for t in task.twins if t not in task.copies}
        self._test = FixedTest(task.data, task.config)
        self._threads = ThreadPoolExecutor(torch.get_num_threads())

    @property
    def networks(self) -> dict[Trial, Network]:
        return {**self._inferring, **self._autograd}

    def minibatches(self, epoch: int, done: int = 0) -> Iterator[ListedBatches]:
        data, config = self._task.data, self._task.config
        in_c = {trial.seed for trial in self._inferring}
        by_torch = {twin.seed for twin in self._autograd}
        streams = {
            seed: self._lists(seed, epoch, done) for seed in self._task.seeds if seed in in_c
        }
        chunks = {seed: data.chunks(config, seed, epoch, False, done) for seed in by_torch}
        for _ in chunk_sizes(data.samples, config.batch_size, done):
            yield ListedBatches(
                {seed: next(stream) for seed, stream in streams.items()},
                {seed: next(stream) for seed, stream in chunks.items()},
            )

    def _lists(self, seed: int, epoch: int, done: int) -> Iterator[PixelLists]:
        """The minibatches of a seed for `phases.c`, which are those of `DataSet.chunks`."""
        data, config = self._task.data, self._task.config
        images = training_lists(data, config.dtype)
        noise = Noise(seed, epoch, config.widths[-2:0:-1], CompiledStream)
        noise.skip(done * config.batch_size)
        for order in epoch_orders(data.samples, config.batch_size, seed, epoch, done):
            targets = target_values(data.train_labels[order.reshape(-1)], config)
            drawn = noise.draw(*order.shape) if self._task.noisy else []
            normals = [part.to(targets.dtype).contiguous() for part in reversed(drawn)]
            yield images.minibatches(order, targets.reshape(*order.shape, -1), normals)

    def train(self, chunks: ListedBatches, rate: float) -> None:
        networks = self._inferring.items()
        working = [self._threads.submit(n.train, chunks.lists[t.seed], rate) for t, n in networks]
        for twin, reference in self._autograd.items():
            reference.train(chunks.chunks[twin.seed], rate)
        for work in working:
            work.result()

    def nonfinite(self) -> list[Trial]:
        return [trial for trial, network in self._everything() if not network.finite()]

    def drop(self, trials: Collection[Trial]) -> None:
        for trial in trials:
            del self._inferring[trial]

    def test_error(self, trial: Trial) -> float:
        return self._test.error(self.networks[trial].parameters())

    def _everything(self) -> list[tuple[Trial, FixedTrial | FixedBackprop]]:
        return [*self._inferring.items(), *self._autograd.items()]
