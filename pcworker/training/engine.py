"""The engine: trains the trials of a shard on one device, on one data set.

It knows tensors and trials. It knows nothing of Ray, of stores or of sweeps.
"""

import time
from collections.abc import Callable, Sequence

import torch

from pcworker.data.dataset import DataSet
from pcworker.data.mnist import Digits
from pcworker.errors import HaltedError
from pcworker.training.checkpoint import Checkpoint
from pcworker.training.results import ShardResult
from pcworker.training.resume import restore, take
from pcworker.training.shard import Training
from pcworker.trials.trial import Trial

SAVE_AFTER_S = 60.0
"""A checkpoint that is as old as this, in seconds, is followed by another one inside the epoch."""


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
        halted: Callable[[], bool] = lambda: False,
    ) -> ShardResult:
        """Trains `trials`, which share a `stack_key`, and their twins beside them.

        max_width         the largest number of trials in one stack; None: all
        report            is told the share of the work that is done, 0 to 1, now and then
        resume            a checkpoint of these trials from which to go on. The bits are the same if
                          it was made by the same sources and, unless the sums are fixed, on the
                          same kind of device with the same libraries.
        checkpoint_every  the number of epochs between two calls of `save`, which is called also
                          when SAVE_AFTER_S seconds have passed; 0: it is never called
        save              is given a checkpoint, but not after the last epoch
        halted            is asked now and then, after some updates, whether to save a checkpoint
                          and to stop, by HaltedError; not asked if there are no checkpoints
        """
        started = time.monotonic() - (resume.seconds if resume else 0.0)
        training = Training(self.data, trials, max_width, resume.packing if resume else "stacked")
        if resume:
            restore(training, resume)
        epochs, saved = training.config.epochs, time.monotonic()

        def enough() -> bool:
            return halted() or time.monotonic() - saved >= SAVE_AFTER_S

        keeps = save is not None and checkpoint_every > 0
        while training.epoch < epochs:
            training.train_epoch(report, enough if keeps else lambda: False)
            due = not training.done and training.epoch % max(1, checkpoint_every) == 0
            if save and keeps and training.epoch < epochs and (due or enough()):
                checkpoint = take(training, time.monotonic() - started)
                save(checkpoint)
                saved = time.monotonic()
                if halted():
                    raise HaltedError(checkpoint.reached, checkpoint.seconds)
        return training.result(time.monotonic() - started)
