"""Backpropagation by torch.autograd on a GPU, with the products of `reference.cu`."""

import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from pcworker.data.batches import Batch
from pcworker.kernels.cuda.gpu import Gpu
from pcworker.kernels.cuda.minibatches import MOST_UPDATES, Gatherer, Images
from pcworker.kernels.fixed.reference import FixedBackprop
from pcworker.trials.trial import Trial

REFERENCE = Path(__file__).with_name("reference.cu")
_THREADS, _MOST_BLOCKS = 32, 1024
"""Blocks of one warp find room beside those of `samples.cu`, which leave few registers."""


class Operations:
    """The functions of `reference.cu`, which take the arguments of those of `phases.c`."""

    def __init__(self, gpu: Gpu, dtype: str) -> None:
        self._program = gpu.program(REFERENCE, ["DOUBLE"] if dtype == "float64" else [])

    def multiply(self, *arguments: int) -> None:
        """out [M, N] = A B"""
        rows, columns = arguments[:2]
        self.run("multiply", rows * columns, arguments)

    def add_bias(self, batch: int, n: int, *addresses: int) -> None:
        """out [B, n] += bias [n]"""
        self.run("add_bias", batch * n, (batch, n, *addresses))

    def add_rows(self, batch: int, n: int, *addresses: int) -> None:
        """out [n] = the sum of the rows of x [B, n]"""
        self.run("add_rows", n, (batch, n, *addresses))

    def apply(self, f: int, count: int, *addresses: int) -> None:
        """out = f(x)"""
        self.run("apply", count, (f, count, *addresses))

    def apply_back(self, f: int, count: int, *addresses: int) -> None:
        """out = f'(x) g"""
        self.run("apply_back", count, (f, count, *addresses))

    def subtract(self, count: int, *addresses: int) -> None:
        """out = y - s"""
        self.run("subtract", count, (count, *addresses))

    def descend(self, count: int, rate: float, *addresses: int) -> None:
        """theta = fma(-rate, gradient, theta)"""
        (bits,) = struct.unpack("q", struct.pack("d", rate))
        self.run("descend", count, (count, bits, *addresses))

    def run(self, kernel: str, count: int, arguments: Sequence[int]) -> None:
        """Launches a function with a thread for each of `count` elements."""
        blocks = min(_MOST_BLOCKS, -(-count // _THREADS))
        self._program.launch(kernel, blocks, _THREADS, 0, [int(value) for value in arguments])


class CudaBackprop:
    """The BP trials of a task, side by side."""

    def __init__(
        self, gpu: Gpu, trials: Sequence[Trial], images: Images, gatherer: Gatherer
    ) -> None:
        self._gpu, self._images, self._gatherer = gpu, images, gatherer
        self.operations = Operations(gpu, trials[0].configuration.dtype)
        with gpu.stream():
            self.networks = {t: FixedBackprop(t, self.operations, gpu.device) for t in trials}
        gpu.wait()
        self._updates: dict[tuple[int, float], _Update] = {}

    def train(
        self, orders: Mapping[int, Tensor], rate: float, looks: Sequence[int]
    ) -> dict[Trial, int]:
        """Makes the weight updates of these samples, int64 [updates, B] by seed.

        rate   the learning rate of an update that sums over the batch
        looks  after how many of these updates to look for weights that are not finite

        Returns, by trial, after how many updates its weights were first seen not to be finite.
        """
        with self._gpu.stream():
            return self._train(orders, rate, looks)

    def forget_squares(self) -> None:
        """Sets the squares of all networks to zero."""
        with self._gpu.stream():
            for network in self.networks.values():
                network.squares.zero_()

    def _train(
        self, orders: Mapping[int, Tensor], rate: float, looks: Sequence[int]
    ) -> dict[Trial, int]:
        updates, batch = next(iter(orders.values())).shape
        if (batch, rate) not in self._updates:
            turns = [
                _Turn(network, self.operations, self._images, self._gatherer, batch, rate)
                for network in self.networks.values()
            ]
            self._updates[batch, rate] = _Update(self._gpu, turns)
        update = self._updates[batch, rate]
        update.begin([orders[trial.seed] for trial in self.networks])
        found = torch.zeros(len(looks), len(self.networks), dtype=torch.int64).to(self._gpu.device)
        for made in range(1, updates + 1):
            update.again()
            if made in looks:
                self._look(found[looks.index(made)])
        self._gpu.mark()()  # it sleeps, where a copy would keep a core busy
        seen = found.cpu().numpy()
        return {
            trial: looks[int(seen[:, place].argmax())]
            for place, trial in enumerate(self.networks)
            if seen[:, place].any()
        }

    def _look(self, found: Tensor) -> None:
        """Writes 1 to found [trials] where a parameter is not finite."""
        for place, network in enumerate(self.networks.values()):
            for parameter in (p for layer in network.parameters() for p in layer):
                numbers = (parameter.numel(), parameter.data_ptr(), found[place].data_ptr())
                self.operations.run("find_nonfinite", parameter.numel(), numbers)


class _Turn:
    """The update of one network, with the next minibatch, always in the same memory."""

    def __init__(
        self,
        network: FixedBackprop,
        operations: Operations,
        images: Images,
        gatherer: Gatherer,
        batch: int,
        rate: float,
    ) -> None:
        self._network, self._operations, self._rate = network, operations, rate
        pixels, classes = images.images.shape[1], network.squares.shape[1]
        new = gatherer.values.new_empty
        self._batch = Batch(new(batch, pixels), new(batch, classes), [])
        self._order = images.labels.new_zeros(min(MOST_UPDATES, len(images.labels) // batch), batch)
        self._next = images.labels.new_zeros(1)
        tensors = (images.images, images.labels, gatherer.values, gatherer.codes, *self._batch[:2])
        places = (self._order.data_ptr(), self._next.data_ptr())
        self._take = (*places, batch, pixels, classes, *(t.data_ptr() for t in tensors))
        self._pointed_to = tensors

    def begin(self, order: Tensor) -> None:
        """The next minibatches are those of these samples, int64 [updates, B]."""
        self._order[: len(order)].copy_(order)
        self._next.zero_()

    def make(self) -> None:
        """Makes the update of the next minibatch."""
        self._operations.run("take_batch", self._batch.inputs.numel(), self._take)
        self._operations.run("count_update", 1, self._take[1:2])
        self._network.update(self._batch, self._rate)


class _Update:
    """The update of all networks. It is recorded when it is first made."""

    def __init__(self, gpu: Gpu, turns: Sequence[_Turn]) -> None:
        self._gpu, self._turns = gpu, turns
        self._recorded: Callable[[], None] | None = None

    def begin(self, orders: Sequence[Tensor]) -> None:
        """The next minibatches are those of these samples, int64 [updates, B] by network."""
        for turn, order in zip(self._turns, orders, strict=True):
            turn.begin(order)

    def again(self) -> None:
        """Makes one update of every network."""
        if self._recorded is None:
            self._recorded = self._gpu.recorded([turn.make for turn in self._turns])
        else:
            self._recorded()
