"""The kernel of a GPU: it trains all trials of a task at once, a block each."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from pcworker.data.batches import updates_of_epoch, weights_are_checked
from pcworker.kernels.cuda.distances import distances
from pcworker.kernels.cuda.gpu import Gpu
from pcworker.kernels.cuda.launch import Launcher, Prepared
from pcworker.kernels.cuda.memory import COUNT, Structs, TrialsMemory
from pcworker.kernels.cuda.minibatches import (
    MOST_UPDATES,
    Gatherer,
    Minibatches,
    on_gpu,
    order_of_epoch,
)
from pcworker.kernels.cuda.reference import CudaBackprop
from pcworker.kernels.kernel import Look, Network, Task, most_careful
from pcworker.kernels.program import forward, program
from pcworker.trials.measures import Distance
from pcworker.trials.trial import Trial


class CudaKernel:
    """Trains a task on a GPU, with the bits of `phases.c` on a CPU.

    Inference, and the copies of twins, are trained by `samples.cu`. The BP trials of the task are
    left to torch.autograd, because they are the reference.
    """

    def __init__(self, task: Task, gpu: Gpu) -> None:
        self._task, self._gpu = task, gpu
        self._before = gpu.beside()
        """Its stream copies to the GPU what the next launch needs, while the last one runs."""
        self.packing = most_careful({task.packing})
        config = task.config
        with gpu.stream():
            self._launcher = Launcher(gpu, task.trials[0].configuration)
            trained = [*task.inferring, *task.copies]
            twins = [twin for twin in task.twins if twin not in task.copies]
            self._programs = {trial: program(trial) for trial in trained}
            # twins have a place, too, where their weights are measured
            self._memory = TrialsMemory([*trained, *twins], gpu.device, self._launcher.whole)
            self._gatherer = Gatherer(gpu, config)
            data = task.data
            self._images = on_gpu(data.train_images, data.train_labels)
            self._backprop = (
                CudaBackprop(gpu.beside(), twins, self._images, self._gatherer) if twins else None
            )
            self._tests = self._test_minibatches()
        gpu.wait()
        self._structs: dict[float, Structs] = {}
        """The trials that are trained, by learning rate."""
        self._measured: _Measured | None = None

    @property
    def name(self) -> str:
        """Which function of `samples.cu` trains."""
        return "phases on a GPU" if self._launcher.whole else "samples on a GPU"

    @property
    def networks(self) -> dict[Trial, Network]:
        members = {t: _Member(self._memory, self._memory.places[t]) for t in self._programs}
        return {**members, **(self._backprop.networks if self._backprop else {})}

    def train_epoch(
        self, epoch: int, done: int = 0, enough: Callable[[], bool] = lambda: False
    ) -> Iterator[Look]:
        """See `Kernel.train_epoch`. A look is told when the next updates are already started, so
        that the GPU does not wait."""
        self._measured = None
        samples, batch_size = self._task.data.samples, self._task.config.batch_size
        if not done:
            with self._gpu.stream():
                self._memory.squares.zero_()
            if self._backprop:
                self._backprop.forget_squares()
        started: _Started | None = None
        try:
            for stretch in stretches(samples, batch_size, done):
                if started and enough():
                    break
                now = self._start(epoch, stretch)
                if started:
                    yield self._look(started)
                started = now
            if started:
                yield self._look(started)
        finally:  # if nobody asks for more, what runs may still read what would now be freed
            self._gpu.wait()

    def drop(self, trials: Collection[Trial]) -> None:
        for trial in trials:
            del self._programs[trial]
            self._structs.clear()  # often there is nothing to drop, and they still hold

    def test_error(self, trial: Trial) -> float:
        return self._measure().errors[trial]

    def distance(self, trial: Trial) -> Distance:
        return self._measure().distances[trial]

    def _start(self, epoch: int, stretch: "Stretch") -> "_Started":
        """Starts the updates of a stretch of an epoch."""
        config, before = self._task.config, stretch.done * self._task.config.batch_size
        rate, stop = config.rate(stretch.batch), before + stretch.updates * stretch.batch
        orders = {
            seed: order_of_epoch(seed, epoch, self._task.data.samples)[before:stop].reshape(
                stretch.updates, stretch.batch
            )
            for seed in self._task.seeds
        }
        trials = sorted(self._programs, key=lambda trial: -len(self._programs[trial]))
        with self._before.stream():
            batches = {
                seed: self._minibatches(epoch, seed, before, order)
                for seed, order in orders.items()
            }
            if rate not in self._structs:
                programs = [(trial, self._programs[trial]) for trial in trials]
                self._structs[rate] = self._memory.structs(programs, rate)
            looks = (stretch.done, stretch.last)
            work = self._launcher.prepare(self._structs[rate], batches, looks)
        made = self._run(work)
        found = self._backprop.train(orders, rate, stretch.looks) if self._backprop else {}
        return _Started(stretch, trials, work, batches, found, made)

    def _run(self, work: Prepared) -> Callable[[], None]:
        """Starts what was prepared in the other stream, once that is done. Returns a function that
        waits for it."""
        with self._gpu.stream():
            self._gpu.after(self._before)
            self._launcher.start(work)
            return self._gpu.mark()

    def _minibatches(self, epoch: int, seed: int, before: int, order: Tensor) -> Minibatches:
        noise = self._gatherer.noise(seed, epoch, before, *order.shape) if self._task.noisy else ()
        return self._gatherer.minibatches(self._images, order, noise)

    def _look(self, started: "_Started") -> Look:
        """Waits for the updates of a stretch, and says which weights are not finite."""
        started.made()
        with self._before.stream():  # in the other one the next updates would be waited for
            seen = started.work.nonfinite.tolist()
        found = {trial: at for trial, at in zip(started.trials, seen, strict=True) if at}
        found |= {trial: started.stretch.done + at for trial, at in started.found.items()}
        return Look(started.stretch.done + started.stretch.updates, found)

    def _measure(self) -> "_Measured":
        """Measures all networks at once, when the first of them is asked for."""
        if self._measured is None:
            with self._gpu.stream():
                for twin, network in (self._backprop.networks if self._backprop else {}).items():
                    self._memory.write(self._memory.places[twin], network.parameters())
                trials = list(self.networks)
                self._measured = _Measured(self._errors(trials), self._distances(trials))
        return self._measured

    def _errors(self, trials: Sequence[Trial]) -> dict[Trial, float]:
        test = (*forward(self._task.config), (COUNT, 0))
        structs = self._memory.structs([(trial, test) for trial in trials], 0.0)
        rights = []
        for images in self._tests:
            by_seed = dict.fromkeys(self._task.seeds, images)
            work = self._launcher.prepare(structs, by_seed)
            self._launcher.start(work)
            rights.append(work.right.cpu())
        total = len(self._task.data.test_labels)
        right = torch.stack(rights).sum(0).tolist()
        return {trial: (total - count) / total for trial, count in zip(trials, right, strict=True)}

    def _distances(self, trials: Sequence[Trial]) -> dict[Trial, Distance]:
        networks = {
            trial: self._memory.parameters(place) for trial, place in self._memory.places.items()
        }
        pairs = [(networks[trial], networks[trial.twin]) for trial in trials]
        found = distances(self._gpu, pairs, self._task.config.dtype)
        return dict(zip(trials, found, strict=True))

    def _test_minibatches(self) -> list[Minibatches]:
        """The test images in their order."""
        data, size = self._task.data, self._task.config.batch_size
        images = on_gpu(data.test_images, data.test_labels)
        order = torch.arange(len(data.test_labels))
        whole = len(order) // size * size
        orders = (order[:whole].reshape(-1, size), order[whole:].reshape(1, -1))
        return [self._gatherer.minibatches(images, some) for some in orders if some.numel()]


class Stretch(NamedTuple):
    """Some updates of an epoch, all with batches of one size."""

    done: int
    """The updates of the epoch before these."""
    updates: int
    batch: int
    last: bool
    """True if the epoch ends with these."""

    @property
    def looks(self) -> list[int]:
        """After how many of these updates weights are looked at."""
        ends = [self.updates] if self.last else []
        checked = range(1, self.updates + 1)
        return sorted({made for made in checked if weights_are_checked(self.done + made)} | {*ends})


def stretches(samples: int, batch_size: int, done: int = 0) -> list[Stretch]:
    """The stretches of an epoch after its first `done` updates, of at most MOST_UPDATES updates."""
    total, (whole, rest) = updates_of_epoch(samples, batch_size), divmod(samples, batch_size)
    ends = sorted({*range(done + MOST_UPDATES, whole, MOST_UPDATES), whole, total})
    return [
        Stretch(start, end - start, batch_size if end <= whole else rest, end == total)
        for start, end in pairwise([done, *(end for end in ends if end > done)])
    ]


class _Started(NamedTuple):
    """Updates that a GPU makes."""

    stretch: Stretch
    trials: list[Trial]
    work: Prepared
    kept: Mapping[int, Minibatches]
    """What the updates read. It lives until they are made."""
    found: Mapping[Trial, int]
    """The BP trials whose weights are not finite."""
    made: Callable[[], None]
    """Waits until the updates are made."""


class _Measured(NamedTuple):
    """The measures of all networks after an epoch."""

    errors: Mapping[Trial, float]
    distances: Mapping[Trial, Distance]


class _Member(NamedTuple):
    """A trial that is trained by `samples.cu`, as a `Network`."""

    memory: TrialsMemory
    place: int

    @property
    def squares(self) -> Tensor:
        return self.memory.squares[self.place]

    def parameters(self) -> list[list[Tensor]]:
        return self.memory.parameters(self.place)
