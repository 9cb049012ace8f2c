"""Trains a network by BP, and watches the inference of Fa-Z-IL at several stages of the training.

The training is plain BP (torch.autograd), which gives the same weights as Z-IL. At each stage, one
trial of Fa-Z-IL for each t_d runs literal inference on test digits, with copies of these weights.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count as count_from
from typing import Any

import numpy as np
import torch

from jobs.detection_rate.configuration import T_D, DetectionConfiguration
from jobs.detection_rate.counts import count
from jobs.detection_rate.results import Detected, DetectionResult
from jobs.detection_rate.watching import watched_errors
from pcworker.data.batches import Batch
from pcworker.data.dataset import DataSet
from pcworker.data.mnist import Digits
from pcworker.errors import InputError
from pcworker.kernels.choice import Reference, reference
from pcworker.trials.digests import network_digest, nonfinite_digest
from pcworker.trials.measures import to_numpy
from pcworker.trials.trial import Trial

Errors = dict[int, list[np.ndarray]]
"""The errors of all inference steps by t_d: for each l, eps^l [steps, samples, n_l]."""


class DetectionEngine:
    """Runs the shards of the detection runs on one device."""

    def __init__(self, digits: Digits, device: torch.device) -> None:
        self.data = DataSet(digits, device)

    def run(
        self,
        trials: Sequence[Trial[DetectionConfiguration]],
        *,
        report: Callable[[float], None] = lambda share: None,
        **others: Any,
    ) -> DetectionResult:
        """Trains and watches the one trial of a shard.

        report  it is called with the share of the work that is done, from 0 to 1
        others  arguments about stacks and checkpoints, which this engine has no use for

        Raises InputError if the test set is smaller than the configured minibatches.
        """
        del others
        started = time.monotonic()
        [trial] = trials
        config = trial.configuration
        self._require_digits(config)
        network = reference(Trial(config.training, trial.seed), self.data.device)
        training = self._training(config, trial.seed)
        detected: list[Detected] = []
        done = 0
        for place, stage in enumerate(config.stage_list):
            for _ in range(done, stage):
                network.update(next(training), config.alpha)
            done = stage
            errors = self.errors(trial, network)
            detected += _detected(config, stage, errors)
            report((place + 1) / len(config.stage_list))
        return DetectionResult(
            trial=trial,
            detected=detected,
            finite=network.finite(),
            twins={trial.twin.trial_id: [_digest(network, done)]},
            wall_seconds=time.monotonic() - started,
            updates=done,
        )

    def errors(self, trial: Trial[DetectionConfiguration], network: Reference) -> Errors:
        """The prediction errors of every inference step, for all minibatches.

        Each minibatch begins with a copy of the weights of `network`, which does not change.
        """
        config = trial.configuration
        learning = config.weights == "learning"
        watched = T_D if learning else T_D[:1]  # if weights are still, t_d does not matter
        trials = [Trial(config.inference(t_d), trial.seed) for t_d in watched]
        batches = self.data.test_batches(config.training, config.minibatches)
        rate = config.alpha if learning else 0.0
        errors = watched_errors(trials, network.parameters(), batches, rate, self.data.device)
        return {t_d: errors[watched.index(t_d) if learning else 0] for t_d in T_D}

    def _training(self, config: DetectionConfiguration, seed: int) -> Iterator[Batch]:
        """Yields the minibatches of BP, epoch after epoch, without end."""
        for epoch in count_from(1):
            yield from self.data.batches(config.training, seed, epoch, noisy=False)

    def _require_digits(self, config: DetectionConfiguration) -> None:
        there, asked = len(self.data.test_labels), config.minibatches * config.batch_size
        if asked > there:
            raise InputError(
                f"minibatches {config.minibatches} of {config.batch_size} are {asked} test digits; "
                f"there are {there}; give fewer"
            )


def _digest(network: Reference, updates: int) -> str:
    if not network.finite():
        return nonfinite_digest(updates)
    return network_digest(to_numpy(network.parameters()))


def _detected(config: DetectionConfiguration, stage: int, errors: Errors) -> Iterator[Detected]:
    horizons = config.horizon_list
    for t_d, layers in errors.items():
        for l, eps in enumerate(layers):
            for tolerance in config.tolerance_list:
                counted = count(eps, l, t_d, horizons, tolerance)
                for horizon, counts in zip(horizons, counted, strict=True):
                    yield Detected(stage, l, eps.shape[2], t_d, horizon, tolerance, counts)
