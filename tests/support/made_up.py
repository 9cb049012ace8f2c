"""Work for a worker on a few hundred made-up digits, so that a shard takes moments."""

from dataclasses import replace
from typing import Any

import numpy as np

from jobs.mnist_ablation.experiment import ablation_engine
from pcworker.data.mnist import Digits
from pcworker.store.store import Store
from pcworker.store.tables import SHARD_TABLES
from pcworker.worker import Work


def made_up_digits(pixels: int = 784) -> Digits:
    random = np.random.default_rng(0)

    def images(count: int) -> np.ndarray:
        return random.integers(256, size=(count, pixels), dtype=np.uint8)

    def labels(count: int) -> np.ndarray:
        return random.integers(10, size=count, dtype=np.uint8)

    return Digits(images(400), labels(400), images(100), labels(100))


def work(store: Store, sweep: str, **changes: Any) -> Work:
    """The work of the ablation on one CPU core."""
    whole = Work(
        sweep=sweep,
        store=store,
        device="cpu",
        cpus=1,
        make_engine=ablation_engine,
        tables=SHARD_TABLES,
    )
    return replace(whole, **changes)
