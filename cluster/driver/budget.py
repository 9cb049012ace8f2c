"""Says when the time or the money that the user has set for a run is used up."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cluster.driver.events import WorkerInfo
from cluster.nodes.prices import Prices
from cluster.nodes.resources import Resources
from pcworker.errors import InputError


@dataclass(frozen=True)
class Budget:
    """The most that a run may use. None: there is no limit."""

    hours: float | None = None
    """The hours from the start of the run."""
    cost: float | None = None
    """The price of all workers, from the moment when each is ready."""

    def __post_init__(self) -> None:
        for option, limit in (("--max-hours", self.hours), ("--max-cost", self.cost)):
            if limit is not None and not 0 < limit < math.inf:
                raise InputError(f"{option} {limit:g}: give a finite number greater than 0")


class Ledger:
    """What a run has used so far."""

    def __init__(self, budget: Budget, prices: Prices, needs: Resources, started: float) -> None:
        """`started` is the time, on the monotonic clock, when the run began."""
        self._budget, self._started = budget, started
        self._price = prices.of(needs)
        self._price_beside = prices.of(needs.beside) if needs.beside else self._price
        self._cost = 0.0
        self._looked: float | None = None
        """The time of the last look. Before the first one no worker was ready."""

    def look(self, now: float, workers: Sequence[WorkerInfo]) -> str | None:
        """Adds what the workers have cost since the last look. Says which limit is reached; None if
        none is.

        now      the time on the monotonic clock
        workers  the workers that are ready now
        """
        hours = 0.0 if self._looked is None else (now - self._looked) / 3600
        self._looked = now
        self._cost += hours * sum(map(self._price_of, workers))
        limits = self._budget
        if limits.hours is not None and now - self._started >= limits.hours * 3600:
            return f"--max-hours {limits.hours:g} is reached"
        if limits.cost is not None and self._cost >= limits.cost:
            return f"--max-cost {limits.cost:g} is reached"
        return None

    def _price_of(self, worker: WorkerInfo) -> float:
        return self._price if worker.device.startswith("cuda") else self._price_beside
