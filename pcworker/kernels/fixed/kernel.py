"""The kernel of `phases.c`: it trains every trial alone, and the copies of twins too."""

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor

import torch

from pcworker.data.batches import Chunk
from pcworker.kernels.fixed.evaluation import FixedTest
from pcworker.kernels.fixed.gathered import PixelLists
from pcworker.kernels.fixed.library import built
from pcworker.kernels.fixed.reference import FixedBackprop
from pcworker.kernels.fixed.trial import FixedTrial
from pcworker.kernels.kernel import ChunkKernel, Network, Task, most_careful
from pcworker.trials.trial import Trial


class FixedKernel(ChunkKernel):
    """Trains a task by `phases.c`. The BP trials of the task are left to torch.autograd, because
    they are the reference.

    There are as many threads as torch has, and each trains a trial at a time.
    """

    name = "phases.c"

    def __init__(self, task: Task) -> None:
        """Raises InputError where there is no compiler."""
        super().__init__(task)
        self.packing = most_careful({task.packing})
        self._build = built(task.config.dtype)
        self._inferring = {t: FixedTrial(t) for t in (*task.inferring, *task.copies)}
        self._autograd = {t: FixedBackprop(t) for t in task.twins if t not in task.copies}
        self._test = FixedTest(task.data, task.config)
        self._threads = ThreadPoolExecutor(torch.get_num_threads())

    @property
    def networks(self) -> dict[Trial, Network]:
        return {**self._inferring, **self._autograd}

    def train(self, chunks: Mapping[int, Chunk], rate: float) -> None:
        lists = {seed: PixelLists(chunk, self._build) for seed, chunk in chunks.items()}
        networks = self._inferring.items()
        working = [self._threads.submit(n.train, lists[t.seed], rate) for t, n in networks]
        for twin, reference in self._autograd.items():
            reference.train(chunks[twin.seed], rate)
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
