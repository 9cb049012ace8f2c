"""The state of one shard while it is trained: its stacks, its twins, its results so far."""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from pcworker import measures
from pcworker.backprop import Backprop
from pcworker.config import Trial
from pcworker.dataset import DataSet
from pcworker.digests import Parameters, network_digest
from pcworker.packing import Packing, choose_packing, probe_batches
from pcworker.results import EpochMetrics, ShardResult, TrialResult
from pcworker.stack import Stack

FINITE_EVERY = 100
"""Updates between two looks for weights that are not finite; the first is after update 1."""


class _Reference(NamedTuple):
    """The twin after an epoch: None where it is not finite."""

    parameters: Parameters | None
    test_error: float | None


class Training:
    """Trials that share a `stack_key`, on one data set.

    The BP trial of a seed is the twin of the seed's other trials. Where it is a trial of this
    shard its metrics are kept as results; otherwise it is a copy, of which only digests are kept.
    """

    def __init__(
        self,
        data: DataSet,
        trials: Sequence[Trial],
        max_width: int | None,
        packing: str = "stacked",
    ) -> None:
        """`packing`: at least as careful as this."""
        self.data = data
        self.config = trials[0].configuration.twin()
        self.results = {trial: TrialResult(trial) for trial in trials}
        self.updates = 0
        self.seeds = tuple(dict.fromkeys(trial.seed for trial in trials))
        self.noisy = any(trial.configuration.noisy for trial in trials)
        self.twins = {
            twin: Backprop(twin, data.device) for twin in dict.fromkeys(t.twin for t in trials)
        }
        self.twin_digests: dict[str, list[str]] = {twin.trial_id: [] for twin in self.twins}
        stacked = [trial for trial in trials if trial not in self.twins]
        width = max_width or max(1, len(stacked))
        groups = [stacked[k : k + width] for k in range(0, len(stacked), width)]
        self.packing = _most_careful({packing, *self._packings(groups)})
        if self.packing != "stacked":
            groups = [[trial] for trial in stacked]
        self.stacks = [Stack(group, data.device) for group in groups]

    def train_epoch(self, epoch: int, report: Callable[[float], None]) -> None:
        """One pass over the training set; `report` is told the share of all epochs that is done."""
        networks: list[Stack | Backprop] = [*self.stacks, *self.twins.values()]
        for network in networks:
            network.squares.zero_()
        total = -(-self.data.samples // self.config.batch_size)
        streams = {
            seed: self.data.batches(self.config, seed, epoch, self.noisy) for seed in self.seeds
        }
        for update in range(total):
            batches = {seed: next(stream) for seed, stream in streams.items()}
            rate = self._rate(len(batches[self.seeds[0]].inputs))
            for stack in self.stacks:
                stack.update(batches, rate)
            for twin, network in self.twins.items():
                network.update(batches[twin.seed], rate)
            self.updates += 1
            if update % FINITE_EVERY == 0:
                self._drop_nonfinite(epoch)
                report((epoch - 1 + update / total) / self.config.epochs)
        self._drop_nonfinite(epoch)

    def measure(self, epoch: int) -> None:
        """Appends this epoch's metrics to every trial that is finite."""
        last = epoch == self.config.epochs
        references = {twin.seed: self._measure_twin(twin, last) for twin in self.twins}
        for stack in self.stacks:
            for place, trial in enumerate(stack.trials):
                parameters, squares = stack.parameters(place), stack.squares[place]
                self._record(trial, parameters, squares, references[trial.seed], last)

    def networks(self) -> dict[str, list[list[Tensor]]]:
        """By trial id, the parameters of all that is trained, as views."""
        stacked = {
            trial.trial_id: stack.parameters(place)
            for stack in self.stacks
            for place, trial in enumerate(stack.trials)
        }
        twins = {twin.trial_id: network.parameters() for twin, network in self.twins.items()}
        return stacked | twins

    def result(self, wall_seconds: float) -> ShardResult:
        """After the last epoch. The epochs of a non-finite trial are rows of None."""
        for result in self.results.values():
            result.epochs += [EpochMetrics()] * (self.config.epochs - len(result.epochs))
            if result.nonfinite_epoch is None:
                result.updates = self.updates
        return ShardResult(
            list(self.results.values()), self.twin_digests, self.packing, wall_seconds
        )

    def _measure_twin(self, twin: Trial, last: bool) -> _Reference:
        network = self.twins[twin]
        parameters = measures.to_numpy(network.parameters())
        self.twin_digests[twin.trial_id].append(network_digest(parameters))
        if not measures.is_finite(parameters):
            return _Reference(None, None)
        error = self.data.test_error(self.config, network.parameters())
        reference = _Reference(parameters, error)
        if twin in self.results:
            self._record(twin, network.parameters(), network.squares, reference, last)
        return reference

    def _record(
        self,
        trial: Trial,
        parameters: Sequence[Sequence[Tensor]],
        squares: Tensor,
        twin: _Reference,
        last: bool,
    ) -> None:
        ours: list[list[np.ndarray]] = measures.to_numpy(parameters)
        apart = None if twin.parameters is None else measures.distance(ours, twin.parameters)
        metrics = EpochMetrics(
            test_error=self.data.test_error(self.config, parameters),
            twin_test_error=twin.test_error,
            train_energy=measures.energy(squares, self.data.samples),
            weight_l2_to_twin=apart.l2 if apart else None,
            weight_l1_to_twin=apart.l1 if apart else None,
            weight_maxabs_to_twin=apart.maxabs if apart else None,
        )
        self.results[trial].epochs.append(metrics)
        if last:
            self.results[trial].parameters = ours

    def _drop_nonfinite(self, epoch: int) -> None:
        """A trial whose weights are not all finite any more is a result, and leaves its stack."""
        for twin, network in self.twins.items():
            if twin in self.results and not network.finite():
                self._mark_nonfinite(twin, epoch)
        for stack in self.stacks:
            finite = stack.finite()
            for trial, is_finite in zip(stack.trials, finite, strict=True):
                if not is_finite:
                    self._mark_nonfinite(trial, epoch)
            stack.keep(finite)
        self.stacks = [stack for stack in self.stacks if stack.trials]

    def _mark_nonfinite(self, trial: Trial, epoch: int) -> None:
        result = self.results[trial]
        if result.nonfinite_epoch is None:
            result.nonfinite_epoch, result.updates = epoch, self.updates

    def _packings(self, groups: Sequence[Sequence[Trial]]) -> set[str]:
        """What the shard's stacks need."""
        size = self.config.batch_size
        rest = self.data.samples % size or min(size, self.data.samples)
        batches = {
            seed: probe_batches(self.data.batches(self.config, seed, 1, self.noisy), rest)
            for seed in self.seeds
        }
        samples, rate, device = self.data.samples, self._rate(size), self.data.device
        return {choose_packing(group, batches, samples, rate, device) for group in groups}

    def _rate(self, batch: int) -> float:
        """The learning rate of a sum over the batch."""
        return self.config.alpha / (batch if self.config.reduction == "mean" else 1)


def _most_careful(found: Collection[str]) -> Packing:
    """One answer for the whole shard: as careful as any of its stacks needs."""
    careful: tuple[Packing, ...] = ("irreproducible", "alone")
    return next((packing for packing in careful if packing in found), "stacked")
