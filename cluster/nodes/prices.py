"""The price of a worker for an hour, by the prices that the user gives, in any currency."""

import math
from dataclasses import dataclass

from cluster.nodes.resources import Resources
from pcworker.errors import InputError


@dataclass(frozen=True)
class Prices:
    """The prices of an hour. None: the user has given no price, and it counts as 0."""

    gpu: float | None = None
    core: float | None = None

    def __post_init__(self) -> None:
        for name, price in (("gpu", self.gpu), ("core", self.core)):
            if price is not None and not 0 <= price < math.inf:
                raise InputError(
                    f"--price-per-{name}-hour {price:g}: give a finite number of at least 0"
                )

    @property
    def given(self) -> bool:
        """True if the user has given a price."""
        return self.gpu is not None or self.core is not None

    def of(self, needs: Resources) -> float:
        """The price of one worker for an hour."""
        return needs.gpus * (self.gpu or 0.0) + needs.cpus * (self.core or 0.0)
