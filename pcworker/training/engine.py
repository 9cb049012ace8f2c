"""The engine: trains the trials of a shard on one device, on one data set.

It knows tensors and trials. It knows nothing of Ray, of stores or of sweeps.
"""

import time
from collections.abc import Callable, Sequence

import torch

from pcworker.data.dataset import DataSet
from pcworker.data.mnist import Digits
from pcworker.training.checkpoint import Checkpoint
from pcworker.training.results import ShardResult
from pcworker.training.resume import restore, take
from pcworker.training.shard import Training
from pcworker.trials.trial import Trial


class Engine:
    """Trains shards on one data set on one device."""

    def __init__(self, digits: Digits, device: torch.device) -> None:
        self.data = DataSet(digits, device)

    def run(
        self,
        trials: Sequence[Trial],
        *,
        max_width: int | None = None,
        report: Callable[[float], None] = lambda share: None,
        resume: Checkpoint | None = None,
        checkpoint_every: int = 1,
        save: Callable[[Checkpoint], None] | None = None,
    ) -> ShardResult:
        """Trains `trials`, which share a `stack_key`, and their twins beside them.

        max_width         the largest number of trials in one stack; None: all
        report            is told the share of the work that is done, 0 to 1, now and then
        resume            a checkpoint of these trials from which to go on. The bits are the same if
                          it was made by the same sources and, unless the sums are fixed, on the
                          same kind of device with the same libraries.
        checkpoint_every  the number of epochs between two calls of `save`; 0: none
        save              is given a checkpoint, but not after the last epoch
        """
        done, before = (resume.epoch, resume.seconds) if resume else (0, 0.0)
        started = time.monotonic() - before
        training = Training(self.data, trials, max_width, resume.packing if resume else "stacked")
        if resume:
            restore(training, resume)
        epochs = training.config.epochs
        for epoch in range(done + 1, epochs + 1):
            training.train_epoch(epoch, report)
            training.measure(epoch)
            if save and checkpoint_every and epoch % checkpoint_every == 0 and epoch < epochs:
                save(take(training, epoch, time.monotonic() - started))
        return training.result(time.monotonic() - started)
