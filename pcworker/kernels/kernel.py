"""The seam between the training of a shard and what computes it.

Training hands a `Task` to `choice.choose`, which builds a `Kernel` for it. From then on training
only knows the kernel's networks, by trial.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, NamedTuple, Protocol, TypeVar

from torch import Tensor

from pcworker.data.batches import Chunk, chunk_sizes, updates_of_epoch, weights_are_checked
from pcworker.data.dataset import DataSet
from pcworker.equations.rules import RULES
from pcworker.kernels.probe import Probe, probe_batches
from pcworker.trials.configuration import Configuration
from pcworker.trials.measures import Distance, distance, to_numpy
from pcworker.trials.trial import Trial

M = TypeVar("M")
"""Minibatches of all seeds, as a kernel takes them."""
Packing = Literal["stacked", "alone", "irreproducible"]
"""How trials are run so that each has the result that it has alone:

stacked         together, because every trial has the bits that it has alone
alone           one by one, because in a stack some trial has, or might have, other bits
irreproducible  one by one, although a trial does not even repeat itself
"""


def most_careful(found: Collection[str]) -> Packing:
    """The one packing of a whole shard: as careful as any of its parts needs."""
    careful: tuple[Packing, ...] = ("irreproducible", "alone")
    return next((packing for packing in careful if packing in found), "stacked")


@dataclass(frozen=True, eq=False)
class Task:
    """The trials of a shard, and what they are trained on."""

    data: DataSet
    trials: Sequence[Trial]
    """Trials that share a `stack_key`."""
    max_width: int | None = None
    """The largest number of trials in a stack, to save memory; None: all."""
    packing: str = "stacked"
    """A kernel's packing has to be at least as careful as this one."""

    @property
    def config(self) -> Configuration:
        """The configuration of all twins, which has every field that the trials share."""
        return self.trials[0].configuration.twin()

    @property
    def seeds(self) -> tuple[int, ...]:
        """The distinct seeds, in order of appearance."""
        return tuple(dict.fromkeys(trial.seed for trial in self.trials))

    @property
    def twins(self) -> tuple[Trial, ...]:
        """The BP trials from which divergence is measured, one for each seed."""
        return tuple(dict.fromkeys(trial.twin for trial in self.trials))

    @property
    def copies(self) -> tuple[Trial, ...]:
        """The twins that are trials of another shard. They are trained here too."""
        return tuple(twin for twin in self.twins if twin not in self.trials)

    @property
    def inferring(self) -> list[Trial]:
        """The trials that run inference, that is all but BP."""
        return [t for t in self.trials if RULES[t.configuration.rule].infers]

    @property
    def updates(self) -> int:
        """The number of weight updates of an epoch."""
        return updates_of_epoch(self.data.samples, self.config.batch_size)

    def chunks(self, epoch: int, done: int = 0) -> Iterator[dict[int, Chunk]]:
        """The training set of an epoch (from 1) after its first `done` updates, some updates at a
        time, by seed."""
        streams = [
            self.data.chunks(self.config, seed, epoch, self.noisy, done) for seed in self.seeds
        ]
        for chunks in zip(*streams, strict=True):
            yield dict(zip(self.seeds, chunks, strict=True))

    def probe(self) -> Probe:
        """A few updates of this task, with which a kernel may be tried."""
        size, samples = self.config.batch_size, self.data.samples
        last_size = samples % size or min(size, samples)
        batches = {
            seed: probe_batches(self.data.batches(self.config, seed, 1, self.noisy), last_size)
            for seed in self.seeds
        }
        return Probe(
            batches=batches,
            samples=samples,
            tests=len(self.data.test_labels),
            rate=self.config.rate(size),
            device=self.data.device,
        )

    @property
    def noisy(self) -> bool:
        """True if a trial needs the noise of condition C1."""
        return any(trial.configuration.noisy for trial in self.trials)


class Network(Protocol):
    """A network that a kernel trains: a trial of its task, or a copy of a twin."""

    @property
    def squares(self) -> Tensor:
        """float64 [B, n_0]: the squares of the output errors before each update, added up until
        they are set to zero."""

    def parameters(self) -> list[list[Tensor]]:
        """theta^{l+1} for l = 0 .. l_max - 1, as views: [weight], or [weight, bias]."""


class Look(NamedTuple):
    """A kernel has looked for weights that are not finite, in an epoch or after it."""

    updates: int
    """The number of weight updates of this epoch that are made."""
    nonfinite: Mapping[Trial, int]
    """By trial whose network has a parameter that is not finite: the number of updates of this
    epoch after which that was seen. It may leave out trials that an earlier look has named."""


class Kernel(Protocol):
    """Trains the networks of a task: its trials, and copies of twins from other shards."""

    @property
    def name(self) -> str:
        """The kernel's name in results, such as "torch"."""

    @property
    def packing(self) -> Packing:
        """How the trials are run."""

    @property
    def networks(self) -> Mapping[Trial, Network]:
        """All networks that are still trained, by trial. They are valid until the next `drop`."""

    def train_epoch(
        self, epoch: int, done: int = 0, enough: Callable[[], bool] = lambda: False
    ) -> Iterator[Look]:
        """Makes the weight updates of an epoch (from 1) in all networks.

        done    the number of updates of the epoch that are made already, in this kernel or in
                another one whose parameters and squares the networks have got
        enough  is asked now and then; once it says True, no more updates are begun, and the last
                look is that of the updates that are made

        It yields now and then and at the end. Weights are looked at after the same updates by every
        kernel, see `weights_are_checked`. `drop` may be called at each yield. The networks may be
        read only between two calls, because a kernel may be ahead of its looks.
        """

    def drop(self, trials: Collection[Trial]) -> None:
        """Stops training these trials, none of which is a twin. The others' bits do not change."""

    def test_error(self, trial: Trial) -> float:
        """The fraction of the task's test images that the network of a trial gets wrong."""

    def distance(self, trial: Trial) -> Distance:
        """How far the network of a trial is from its twin's. Both are finite."""


class ChunkKernel(ABC, Generic[M]):
    """What is common to kernels that train a chunk of minibatches at a time."""

    def __init__(self, task: Task) -> None:
        self._task = task

    @property
    @abstractmethod
    def networks(self) -> Mapping[Trial, Network]:
        """See `Kernel.networks`."""

    @abstractmethod
    def minibatches(self, epoch: int, done: int = 0) -> Iterator[M]:
        """The minibatches of an epoch (from 1) after its first `done` ones, a chunk of each seed at
        a time."""

    @abstractmethod
    def train(self, chunks: M, rate: float) -> None:
        """Makes the weight updates of these minibatches in all networks.

        rate  the learning rate of an update that sums over the batch
        """

    @abstractmethod
    def nonfinite(self) -> Sequence[Trial]:
        """The trials whose network has a parameter that is not finite."""

    def train_epoch(
        self, epoch: int, done: int = 0, enough: Callable[[], bool] = lambda: False
    ) -> Iterator[Look]:
        """See `Kernel.train_epoch`."""
        if not done:
            for network in self.networks.values():
                network.squares.zero_()
        config = self._task.config
        sizes = chunk_sizes(self._task.data.samples, config.batch_size, done)
        for (updates, size), chunks in zip(sizes, self.minibatches(epoch, done), strict=True):
            self.train(chunks, config.rate(size))
            done += updates
            if weights_are_checked(done):
                yield Look(done, dict.fromkeys(self.nonfinite(), done))
                if enough():
                    return
        yield Look(done, dict.fromkeys(self.nonfinite(), done))

    def distance(self, trial: Trial) -> Distance:
        """See `Kernel.distance`."""
        pair = (self.networks[trial], self.networks[trial.twin])
        return distance(*(to_numpy(network.parameters()) for network in pair))
