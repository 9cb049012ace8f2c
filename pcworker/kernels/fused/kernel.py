"""The kernel of `fused.c`: it trains every trial alone, and the copies of twins too."""

from collections.abc import Collection, Iterator, Mapping

from pcworker.data.batches import Chunk
from pcworker.kernels.backprop import Backprop
from pcworker.kernels.fused.agreement import choose_fused
from pcworker.kernels.fused.evaluation import FusedTest
from pcworker.kernels.fused.gathered import Gathered
from pcworker.kernels.fused.library import Orders
from pcworker.kernels.fused.trial import FusedTrial
from pcworker.kernels.kernel import ChunkKernel, Network, Task, most_careful
from pcworker.kernels.probe import Probe
from pcworker.trials.trial import Trial


def fused_kernel(task: Task, probe: Probe) -> "FusedKernel | None":
    """The kernel for this task, or None if `fused.c` does not give torch's bits for it."""
    orders = choose_fused(task.trials, probe)
    return None if orders is None else FusedKernel(task, orders)


class FusedKernel(ChunkKernel[Mapping[int, Chunk]]):
    """Trains a task by `fused.c`. The BP trials of the task are left to torch.autograd, because
    they are the reference."""

    name = "fused.c"

    def __init__(self, task: Task, orders: Orders) -> None:
        super().__init__(task)
        self.packing = most_careful({task.packing})
        self._block = orders.block
        self._fused = {t: FusedTrial(t, orders) for t in (*task.inferring, *task.copies)}
        own = [twin for twin in task.twins if twin not in task.copies]
        self._autograd = {twin: Backprop(twin, task.data.device) for twin in own}
        self._test = FusedTest(task.data, task.config, orders)

    @property
    def networks(self) -> dict[Trial, Network]:
        return {**self._fused, **self._autograd}

    def minibatches(self, epoch: int, done: int = 0) -> Iterator[Mapping[int, Chunk]]:
        return self._task.chunks(epoch, done)

    def train(self, chunks: Mapping[int, Chunk], rate: float) -> None:
        gathered = {seed: Gathered(chunk, self._block) for seed, chunk in chunks.items()}
        for trial, network in self._fused.items():
            network.train(gathered[trial.seed], rate)
        for twin, reference in self._autograd.items():
            reference.train(chunks[twin.seed], rate)

    def nonfinite(self) -> list[Trial]:
        fused = [trial for trial, network in self._fused.items() if not network.finite()]
        return fused + [twin for twin, network in self._autograd.items() if not network.finite()]

    def drop(self, trials: Collection[Trial]) -> None:
        for trial in trials:
            del self._fused[trial]

    def test_error(self, trial: Trial) -> float:
        return self._test.error(self.networks[trial].parameters())
