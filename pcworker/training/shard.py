"""The state of one shard while it is trained: its kernel, and the results of its trials so far."""

from collections.abc import Callable, Sequence

from pcworker.data.dataset import DataSet
from pcworker.kernels.choice import choose
from pcworker.kernels.kernel import Network, Task
from pcworker.training.results import EpochMetrics, ShardResult, TrialResult
from pcworker.trials import measures
from pcworker.trials.digests import network_digest, nonfinite_digest
from pcworker.trials.trial import Trial


class Training:
    """The training of trials that share a `stack_key`, on one data set.

    The BP trial of a seed is the twin of the seed's other trials. If it is a trial of this shard,
    its metrics are kept as results. Otherwise it is a copy, and only its digests are kept. The
    collector compares them with those of the trial itself, which another shard trains.
    """

    def __init__(
        self,
        data: DataSet,
        trials: Sequence[Trial],
        max_width: int | None = None,
        packing: str = "stacked",
    ) -> None:
        """
        max_width  the largest number of trials in a stack; None: all
        packing    the trials are run at least as carefully as this
        """
        self._task = Task(data, tuple(trials), max_width, packing)
        self._twins = self._task.twins
        self.config = self._task.config
        self.kernel = choose(self._task)
        self.results = {trial: TrialResult(trial) for trial in trials}
        self.updates_of_epoch = self._task.updates
        """The number of weight updates of an epoch."""
        self.epoch = 0
        """The number of finished epochs."""
        self.done = 0
        """The number of weight updates that are made of the next epoch."""
        self.updates = 0
        """The number of weight updates that every finite trial has made."""
        self.twin_digests: dict[str, list[str]] = {twin.trial_id: [] for twin in self._twins}
        self.nonfinite_twins: dict[str, int] = {}
        """The number of updates after which a twin was found to be not finite, by its trial id."""

    def train_epoch(self, report: Callable[[float], None], enough: Callable[[], bool]) -> None:
        """Goes on with the pass over the training set. Where it ends with it, it measures.

        report  is told the share of all epochs that is done, now and then
        enough  is asked now and then whether to stop before the end
        """
        total, before = self.updates_of_epoch, self.updates - self.done
        for look in self.kernel.train_epoch(self.epoch + 1, self.done, enough):
            self.done, self.updates = look.updates, before + look.updates
            for trial, updates in look.nonfinite.items():
                self._record_nonfinite(trial, self.epoch + 1, before + updates)
            self.drop_nonfinite()
            if look.updates < total:
                report((self.epoch + (look.updates - 1) / total) / self.config.epochs)
        if self.done >= total:
            self.epoch, self.done = self.epoch + 1, 0
            self._append_metrics()

    def _append_metrics(self) -> None:
        """Appends the metrics of the epoch that has just ended to every trial that is finite."""
        networks = self.kernel.networks
        errors = {twin: self._measure_twin(twin, networks[twin]) for twin in self._twins}
        for trial, network in networks.items():
            if trial in self.results and self.results[trial].nonfinite_epoch is None:
                result = self.results[trial]
                result.epochs.append(self._measure(trial, network, errors[trial.twin]))
                if self.epoch == self.config.epochs:
                    result.parameters = measures.to_numpy(network.parameters())

    def result(self, wall_seconds: float) -> ShardResult:
        """The results after the last epoch. The epochs of a non-finite trial are rows of None."""
        for result in self.results.values():
            result.epochs += [EpochMetrics()] * (self.config.epochs - len(result.epochs))
            if result.nonfinite_epoch is None:
                result.updates = self.updates
        return ShardResult(
            trials=list(self.results.values()),
            twins=self.twin_digests,
            packing=self.kernel.packing,
            wall_seconds=wall_seconds,
            kernel=self.kernel.name,
        )

    def drop_nonfinite(self) -> None:
        """Stops training the trials that are recorded as not finite.

        A twin goes on, because every shard that trains it must give the same digests.
        """
        self.kernel.drop(
            [
                trial
                for trial in self.kernel.networks
                if trial not in self._twins and self.results[trial].nonfinite_epoch is not None
            ]
        )

    def _record_nonfinite(self, trial: Trial, epoch: int, updates: int) -> None:
        """Records that a trial's weights are not all finite any more: that is a result, too."""
        if trial in self._twins:
            self.nonfinite_twins.setdefault(trial.trial_id, updates)
        result = self.results.get(trial)  # a copy of a twin has none
        if result is not None and result.nonfinite_epoch is None:
            result.nonfinite_epoch, result.updates = epoch, updates

    def _measure_twin(self, twin: Trial, network: Network) -> float | None:
        """Appends the twin's digest, and gives its test error, or None if it is not finite."""
        digests = self.twin_digests[twin.trial_id]
        if twin.trial_id in self.nonfinite_twins:
            digests.append(nonfinite_digest(self.nonfinite_twins[twin.trial_id]))
            return None
        digests.append(network_digest(measures.to_numpy(network.parameters())))
        return self.kernel.test_error(twin)

    def _measure(self, trial: Trial, network: Network, twin_error: float | None) -> EpochMetrics:
        """The metrics of a finite network. `twin_error` is None if its twin is not finite."""
        apart = None if twin_error is None else self.kernel.distance(trial)
        return EpochMetrics(
            test_error=self.kernel.test_error(trial),
            twin_test_error=twin_error,
            train_energy=measures.energy(network.squares, self._task.data.samples),
            weight_l2_to_twin=apart.l2 if apart else None,
            weight_l1_to_twin=apart.l1 if apart else None,
            weight_maxabs_to_twin=apart.maxabs if apart else None,
        )
