"""Watches inference: the prediction errors of every step, by the kernel that the sums ask for."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from pcworker.data.batches import Batch, Chunk
from pcworker.equations.inference import State
from pcworker.kernels.fixed.gathered import listed
from pcworker.kernels.fixed.trial import FixedTrial
from pcworker.kernels.stack import Stack
from pcworker.trials.trial import Trial

Weights = Sequence[Sequence[Tensor]]
"""[weight], or [weight, bias], for l = 0 .. l_max - 1."""
StepErrors = Sequence[list[np.ndarray]]
"""eps^l [samples, n_l] of one inference step, by trial and then by l."""


def watched_errors(
    trials: Sequence[Trial],
    weights: Weights,
    batches: Iterable[Batch],
    rate: float,
    device: torch.device,
) -> list[list[np.ndarray]]:
    """The errors of every inference step of these trials, which differ in t_d alone.

    Each minibatch begins with a copy of `weights`, which do not change. For each trial and each l
    the result has eps^l [steps, samples, n_l].
    """
    fixed = trials[0].configuration.sums == "fixed"
    watch = _by_phases(trials, weights, rate) if fixed else _by_torch(trials, weights, rate, device)
    seen = [list(watch(batch)) for batch in batches]
    return [
        [
            np.concatenate([np.stack([step[k][l] for step in steps]) for steps in seen], axis=1)
            for l in range(trials[0].configuration.l_max)
        ]
        for k in range(len(trials))
    ]


def _by_torch(
    trials: Sequence[Trial], weights: Weights, rate: float, device: torch.device
) -> Callable[[Batch], Iterable[StepErrors]]:
    """Returns what watches a minibatch by a stack of torch's operations."""
    stack = Stack(trials, device)
    place = {trial: k for k, trial in enumerate(stack.trials)}

    def watch(batch: Batch) -> list[StepErrors]:
        seen: list[StepErrors] = []

        def look(state: State) -> None:
            eps = [layer.cpu().numpy().copy() for layer in state.eps]
            seen.append([[layer[place[trial]] for layer in eps] for trial in trials])

        for k in range(len(trials)):
            _copy(weights, stack.parameters(k))
        stack.update({trials[0].seed: batch}, rate, look)
        return seen

    return watch


def _by_phases(
    trials: Sequence[Trial], weights: Weights, rate: float
) -> Callable[[Batch], Iterable[StepErrors]]:
    """Returns what watches a minibatch by `phases.c`."""
    networks = [FixedTrial(trial) for trial in trials]

    def watch(batch: Batch) -> Iterator[StepErrors]:
        for network in networks:
            _copy(weights, network.parameters())
        chunk = Chunk(batch.inputs.unsqueeze(0), batch.targets.unsqueeze(0), [])
        lists = listed(chunk, networks[0].build)
        return zip(*(_copied(network.watched(lists, rate)) for network in networks), strict=True)

    return watch


def _copied(steps: Iterable[list[Tensor]]) -> Iterator[list[np.ndarray]]:
    for layers in steps:
        yield [eps.numpy().copy() for eps in layers]


@torch.no_grad()
def _copy(weights: Weights, parameters: Weights) -> None:
    for theirs, ours in zip(weights, parameters, strict=True):
        for value, parameter in zip(theirs, ours, strict=True):
            parameter.copy_(value)
