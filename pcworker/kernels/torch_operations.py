"""The kernel of torch's own operations: stacks of trials, and torch.autograd for the twins."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pcworker.data.batches import Chunk, pixels
from pcworker.data.dataset import DataSet
from pcworker.kernels.backprop import Backprop
from pcworker.kernels.kernel import ChunkKernel, Network, Packing, Task, most_careful
from pcworker.kernels.packing import choose_packing
from pcworker.kernels.probe import Probe
from pcworker.kernels.stack import Stack
from pcworker.trials.configuration import Configuration
from pcworker.trials.trial import Trial


class TorchKernel(ChunkKernel[Mapping[int, Chunk]]):
    """Trains every task on every device. All other kernels have to give its bits."""

    name = "torch"

    def __init__(self, task: Task, probe: Probe) -> None:
        super().__init__(task)
        groups = _groups(task.inferring, task.max_width)
        found = {choose_packing(group, probe) for group in groups}
        self.packing: Packing = most_careful({task.packing, *found})
        if self.packing != "stacked":
            groups = _groups(task.inferring, 1)
        self._stacks = [Stack(group, task.data.device) for group in groups]
        self._twins = {twin: Backprop(twin, task.data.device) for twin in task.twins}

    @property
    def networks(self) -> dict[Trial, Network]:
        members = {
            trial: _Member(stack, place)
            for stack in self._stacks
            for place, trial in enumerate(stack.trials)
        }
        return {**members, **self._twins}

    def minibatches(self, epoch: int, done: int = 0) -> Iterator[Mapping[int, Chunk]]:
        return self._task.chunks(epoch, done)

    def train(self, chunks: Mapping[int, Chunk], rate: float) -> None:
        for stack in self._stacks:
            stack.train(chunks, rate)
        for twin, network in self._twins.items():
            network.train(chunks[twin.seed], rate)

    def nonfinite(self) -> list[Trial]:
        members = [
            trial
            for stack in self._stacks
            for trial, finite in zip(stack.trials, stack.finite(), strict=True)
            if not finite
        ]
        return members + [twin for twin, network in self._twins.items() if not network.finite()]

    def drop(self, trials: Collection[Trial]) -> None:
        for stack in self._stacks:
            stack.keep([trial not in trials for trial in stack.trials])
        self._stacks = [stack for stack in self._stacks if stack.trials]

    def test_error(self, trial: Trial) -> float:
        return fraction_wrong(self._task.data, self._task.config, self.networks[trial].parameters())


class _Member(NamedTuple):
    """One trial of a stack, as a `Network`."""

    stack: Stack
    place: int

    @property
    def squares(self) -> Tensor:
        return self.stack.squares[self.place]

    def parameters(self) -> list[list[Tensor]]:
        return self.stack.parameters(self.place)


def fraction_wrong(
    data: DataSet, config: Configuration, parameters: Sequence[Sequence[Tensor]]
) -> float:
    """The fraction of the test images whose largest output is not at their label.

    It is computed on copies of the parameters, so that it does not depend on a stack.
    """
    copies = [[p.clone() for p in layer] for layer in parameters]
    images = pixels(data.test_images, getattr(torch, config.dtype))
    wrong = outputs(config, copies, images).argmax(1) != data.test_labels
    return int(wrong.sum()) / len(data.test_labels)


def outputs(config: Configuration, parameters: Sequence[Sequence[Tensor]], x: Tensor) -> Tensor:
    """y^0 [B, n_0] of one network for inputs x [B, n_{l_max}] (Eq. 1). Every rule predicts so."""
    f = getattr(torch, config.activation)
    for l in reversed(range(len(parameters))):
        x = nn.functional.linear(x, *parameters[l])
        x = f(x) if l > 0 else x
    return x


def _groups(trials: Sequence[Trial], width: int | None) -> list[Sequence[Trial]]:
    """The trials in groups of at most `width`; None: in one group."""
    step = width or max(1, len(trials))
    return [trials[k : k + step] for k in range(0, len(trials), step)]
