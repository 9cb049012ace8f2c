"""The state of one shard while it is trained: its stacks, its twins, its results so far."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

from pcworker.data.batches import CHUNK, Batch, Chunk
from pcworker.data.dataset import DataSet
from pcworker.equations.rules import RULES
from pcworker.kernels.backprop import Backprop
from pcworker.kernels.fused.agreement import choose_fused
from pcworker.kernels.fused.evaluation import FusedTest
from pcworker.kernels.fused.trial import FusedStack, FusedTrial, Gathered
from pcworker.kernels.packing import Packing, choose_packing, probe_batches
from pcworker.kernels.stack import Stack
from pcworker.training import measures
from pcworker.training.results import EpochMetrics, ShardResult, TrialResult
from pcworker.trials.digests import Parameters, network_digest
from pcworker.trials.trial import Trial


class _Reference(NamedTuple):
    """The twin after an epoch: None where it is not finite."""

    parameters: Parameters | None
    test_error: float | None


class Training:
    """Trials that share a `stack_key`, on one data set.

    The BP trial of a seed is the twin of the seed's other trials. Where it is a trial of this
    shard torch.autograd trains it, and its metrics are kept as results; otherwise it is a copy, of
    which only digests are kept, for the collector to compare with those of that trial.
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
        stacked = [trial for trial in trials if RULES[trial.configuration.rule].infers]
        width = max_width or max(1, len(stacked))
        groups = [stacked[k : k + width] for k in range(0, len(stacked), width)]
        some = self._some_batches()
        choice = (some, data.samples, self._rate(self.config.batch_size), data.device)
        self.orders = choose_fused(trials, *choice, len(data.test_labels))
        """How `fused.c` trains this shard; None: torch does."""
        if self.orders:
            found: set[str] = {packing}  # each trial is trained alone
        else:
            found = {packing, *(choose_packing(group, *choice) for group in groups)}
        self.packing = _most_careful(found)
        if self.packing != "stacked":
            groups = [[trial] for trial in stacked]
        self.stacks = [self._stack(group) for group in groups]
        self.twins = {twin: self._twin(twin) for twin in dict.fromkeys(t.twin for t in trials)}
        self.twin_digests: dict[str, list[str]] = {twin.trial_id: [] for twin in self.twins}
        self._test = FusedTest(data, self.config, self.orders) if self.orders else None

    def train_epoch(self, epoch: int, report: Callable[[float], None]) -> None:
        """One pass over the training set; `report` is told the share of all epochs that is done."""
        for stack in self.stacks:
            stack.zero_squares()
        for network in self.twins.values():
            network.squares.zero_()
        total = -(-self.data.samples // self.config.batch_size)
        streams = [self.data.chunks(self.config, s, epoch, self.noisy) for s in self.seeds]
        done = 0
        for chunks in zip(*streams, strict=True):
            self._train(dict(zip(self.seeds, chunks, strict=True)))
            done += len(chunks[0].inputs)
            if done % CHUNK == 1:
                self._drop_nonfinite(epoch)
                report((epoch - 1 + (done - 1) / total) / self.config.epochs)
        self._drop_nonfinite(epoch)

    def measure(self, epoch: int) -> None:
        """Appends this epoch's metrics to every trial that is finite."""
        last = epoch == self.config.epochs
        references = {twin.seed: self._measure_twin(twin, last) for twin in self.twins}
        for stack in self.stacks:
            for place, trial in enumerate(stack.trials):
                parameters, squares = stack.parameters(place), stack.squares_of(place)
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
            list(self.results.values()),
            self.twin_digests,
            self.packing,
            wall_seconds,
            "fused.c" if self.orders else "torch",
        )

    def _measure_twin(self, twin: Trial, last: bool) -> _Reference:
        network = self.twins[twin]
        parameters = measures.to_numpy(network.parameters())
        self.twin_digests[twin.trial_id].append(network_digest(parameters))
        if not measures.is_finite(parameters):
            return _Reference(None, None)
        error = self._test_error(network.parameters())
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
            test_error=self._test_error(parameters),
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

    def _train(self, chunks: Mapping[int, Chunk]) -> None:
        """The next updates of all networks, from the chunks of their seeds."""
        updates, size = chunks[self.seeds[0]].inputs.shape[:2]
        rate = self._rate(size)
        gathered = {}
        if self.orders:
            gathered = {seed: Gathered(c, self.orders.block) for seed, c in chunks.items()}
        for stack in self.stacks:
            if isinstance(stack, FusedStack):
                stack.train(gathered, rate)
            else:
                stack.train(chunks, rate)
        for twin, network in self.twins.items():
            if isinstance(network, FusedTrial):
                network.train(gathered[twin.seed], rate)
            else:
                network.train(chunks[twin.seed], rate)
        self.updates += updates

    def _stack(self, trials: Sequence[Trial]) -> Stack | FusedStack:
        return FusedStack(trials, self.orders) if self.orders else Stack(trials, self.data.device)

    def _twin(self, twin: Trial) -> Backprop | FusedTrial:
        """By torch.autograd; but a copy of a trial of another shard takes the faster way."""
        if self.orders and twin not in self.results:
            return FusedTrial(twin, self.orders)
        return Backprop(twin, self.data.device)

    def _test_error(self, parameters: Sequence[Sequence[Tensor]]) -> float:
        if self._test:
            return self._test.error(parameters)
        return measures.fraction_wrong(self.data, self.config, parameters)

    def _some_batches(self) -> dict[int, list[Batch]]:
        """By seed: some to try things with."""
        size = self.config.batch_size
        rest = self.data.samples % size or min(size, self.data.samples)
        return {
            seed: probe_batches(self.data.batches(self.config, seed, 1, self.noisy), rest)
            for seed in self.seeds
        }

    def _rate(self, batch: int) -> float:
        """The learning rate of a sum over the batch."""
        return self.config.alpha / (batch if self.config.reduction == "mean" else 1)


def _most_careful(found: Collection[str]) -> Packing:
    """One answer for the whole shard: as careful as any of its stacks needs."""
    careful: tuple[Packing, ...] = ("irreproducible", "alone")
    return next((packing for packing in careful if packing in found), "stacked")
