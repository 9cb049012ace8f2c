"""The contenders that are timed in this process: our stacks, the same trials by plain torch, and
torch's autograd."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from jobs.benchmark.arithmetic import NeededArithmetic, Times, count_needed
from jobs.benchmark.rounds import RunBlock
from pcworker.data.batches import Batch, Chunk, pixels, target_values
from pcworker.data.mnist import Digits
from pcworker.data.randomness import batch_order
from pcworker.equations.rules import BP
from pcworker.kernels.backprop import Backprop
from pcworker.kernels.fixed.gathered import PixelLists, listed
from pcworker.kernels.fixed.trial import FixedTrial
from pcworker.kernels.program import program
from pcworker.kernels.stack import Stack
from pcworker.trials.configuration import Configuration
from pcworker.trials.trial import Trial

OURS, TORCH, AUTOGRAD = "ours", "torch operations", "torch autograd"
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Contender:
    """An implementation that trains one or more trials by one rule."""

    who: str
    """The name of the implementation, as the tables print it."""
    rule: str
    width: int
    """The number of trials that are trained together."""
    run_block: RunBlock
    """Trains all of its trials on the next block."""
    weights: Callable[[], Sequence[np.ndarray]]
    """The current weights of one trial: theta^{l+1} [n_l, n_{l+1}] for l = 0 .. l_max - 1."""


class Supply:
    """The blocks of minibatches that every contender learns, again and again. A block is made anew
    each time, from the digits' bytes in a seed's order, as `pcworker.data.batches.epoch_chunks`
    does it."""

    BLOCKS = 5
    """The number of different blocks."""

    def __init__(self, config: Configuration, digits: Digits, seed: int, updates: int) -> None:
        self._config, self._updates = config, updates
        self._images = torch.from_numpy(np.array(digits.train_images))
        self._labels = torch.from_numpy(digits.train_labels.astype(np.int64))
        self.samples = len(self._images)
        self._order = batch_order(seed, 1, self.samples)

    def chunk(self, block: int) -> Chunk:
        """The minibatches of a block. Blocks are numbered from 0 and repeat after BLOCKS."""
        config, samples = self._config, self._updates * self._config.batch_size
        places = torch.arange(samples) + block % self.BLOCKS * samples
        chosen = self._order[places % self.samples]
        shape = (self._updates, config.batch_size, -1)
        return Chunk(
            pixels(self._images[chosen], torch.float32).reshape(shape),
            target_values(self._labels[chosen], config).reshape(shape),
            [],
        )

    def all(self) -> Chunk:
        """All blocks as one chunk."""
        inputs, targets, _ = zip(*map(self.chunk, range(self.BLOCKS)), strict=True)
        return Chunk(torch.cat(inputs), torch.cat(targets), [])


class _Blocks:
    """Runs a contender's blocks one after the other, and times them."""

    def __init__(
        self,
        supply: Supply,
        learn: Callable[[Chunk], Callable[[], object]],
        *,
        ready: bool = False,
        before: Callable[[], object] = lambda: None,
    ) -> None:
        """
        learn   prepares a chunk, and returns a function that trains on it
        ready   True if the time of preparing a chunk does not count
        before  is called before each block, and is not timed
        """
        self._supply, self._learn, self._ready, self._before = supply, learn, ready, before
        self._next = 0

    def __call__(self) -> Times:
        self._before()
        started = time.perf_counter()
        run = self._learn(self._supply.chunk(self._next))
        self._next += 1
        made = time.perf_counter()
        run()
        return Times(0.0 if self._ready else made - started, time.perf_counter() - made)


def stack(rule: str, trial: Trial, width: int, supply: Supply, rate: float) -> Contender:
    """Our fast kernel: `width` trials of one seed, which share their batches and the lists that are
    made of these. Raises InputError if it cannot be compiled."""
    made = [FixedTrial(trial) for _ in range(width)]
    some, build = supply.chunk(0), made[0].build
    first = listed(Chunk(some.inputs[:1], some.targets[:1], []), build)

    def anew() -> None:
        """Starts again from the initial weights, in other memory. A trial may be 10 % slower for
        the place of its memory, and without this one place would decide the whole run."""
        made[:] = [FixedTrial(trial) for _ in range(width)]
        # An update at rate 0 touches the memory, so that the timed updates find its pages there.
        train(first, 0.0)

    def train(lists: PixelLists, rate: float) -> None:
        for member in made:
            member.train(lists, rate)

    def learn(chunk: Chunk) -> Callable[[], object]:
        lists = listed(chunk, build)
        return lambda: train(lists, rate)

    blocks = _Blocks(supply, learn, before=anew)
    return Contender(OURS, rule, width, blocks, lambda: _arrays(made[0].parameters()))


def torch_stack(rule: str, trial: Trial, width: int, supply: Supply, rate: float) -> Contender:
    """The same trials by torch's batched operations, in torch's sums."""
    made = Stack([trial] * width, CPU)

    def learn(chunk: Chunk) -> Callable[[], object]:
        batches = list(chunk.batches())
        return lambda: _each(lambda batch: made.update({trial.seed: batch}, rate), batches)

    return Contender(
        TORCH, rule, width, _Blocks(supply, learn), lambda: _arrays(made.parameters(0))
    )


def autograd(trial: Trial, supply: Supply, rate: float) -> Contender:
    """BP by torch.nn.Linear, torch.autograd and torch.optim.SGD, on batches that are ready."""
    made = Backprop(trial, CPU)

    def learn(chunk: Chunk) -> Callable[[], object]:
        batches = list(chunk.batches())
        return lambda: _each(lambda batch: made.update(batch, rate), batches)

    return Contender(
        AUTOGRAD, BP.name, 1, _Blocks(supply, learn, ready=True), lambda: _arrays(made.parameters())
    )


def distance_apart(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> float:
    """The largest absolute difference of a weight."""
    return max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True))


def needed_arithmetic(trial: Trial, supply: Supply) -> tuple[NeededArithmetic, NeededArithmetic]:
    """The arithmetic of one update of the trial: with all pixels, and without those that are 0."""
    config, inputs = trial.configuration, supply.all().inputs
    entries = (inputs[0].numel(), int(torch.count_nonzero(inputs)) / len(inputs))
    every, some = (
        count_needed(program(trial), config.widths, config.batch_size, n) for n in entries
    )
    return every, some


def _each(update: Callable[[Batch], object], batches: Sequence[Batch]) -> None:
    for batch in batches:
        update(batch)


def _arrays(parameters: Sequence[Sequence[Tensor]]) -> list[np.ndarray]:
    return [layer[0].numpy().copy() for layer in parameters]
