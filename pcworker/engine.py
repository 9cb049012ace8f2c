"""The engine: trains the trials of a shard on one device, on one data set.

It knows tensors and trials; it knows nothing of Ray, of stores or of sweeps.
"""

import time
from collections.abc import Callable, Sequence

import torch

from pcworker.config import Trial
from pcworker.dataset import DataSet
from pcworker.digits import Digits
from pcworker.results import ShardResult
from pcworker.training import Training


class Engine:
    """One data set on one device, and what trains on it."""

    def __init__(self, digits: Digits, device: torch.device) -> None:
        self.data = DataSet(digits, device)

    def run(
        self,
        trials: Sequence[Trial],
        *,
        max_width: int | None = None,
        report: Callable[[float], None] = lambda share: None,
    ) -> ShardResult:
        """Trains `trials`, which share a `stack_key`, and their twins beside them.

        max_width  most trials in one stack; None: all
        report     is told the share of the work that is done, 0 to 1, now and then
        """
        started = time.monotonic()
        training = Training(self.data, trials, max_width)
        for epoch in range(1, training.config.epochs + 1):
            training.train_epoch(epoch, report)
            training.measure(epoch)
        return training.result(time.monotonic() - started)
