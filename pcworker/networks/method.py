"""How a network of modules learns: a rule and its parameters, as one value."""

from dataclasses import asdict, dataclass
from functools import lru_cache

from pcworker.equations.schedule import Block, Kind, Step, steps
from pcworker.errors import InputError
from pcworker.trials.configuration import configuration


@dataclass(frozen=True, kw_only=True)
class Method:
    """How a network of modules learns: a rule and what it needs. The letters are Eq. 5-9's."""

    rule: str
    """"IL", "Z-IL" or "Fa-Z-IL"."""
    t: int | None = None
    """IL: the inference step at which it moves all weights (the paper's t_c)."""
    gamma: float = 1.0
    sigma: float = 0.0
    """Standard deviation of x^l_0 around mu^l_0 in the hidden layers."""
    t_d: int = 4
    """Fa-Z-IL: inference steps for which an error must have been 0 before phi can be 1."""
    horizon: int | None = None
    """Fa-Z-IL: its last inference step; None: l_max - 1."""
    schedule: str = "layerwise"
    arithmetic: str = "displacement"

    def __post_init__(self) -> None:
        if self.rule == "BP":
            raise InputError("rule BP is torch.autograd's own; allowed: IL, Z-IL, Fa-Z-IL")
        configuration(**asdict(self))  # has the same limits, and raises

    def last_step(self, l_max: int) -> int:
        """The last t at which the rule looks at a network of l_max layers of weights."""
        if self.rule == "IL":
            return self.t or 0
        return self.horizon if self.rule == "Fa-Z-IL" and self.horizon is not None else l_max - 1

    def steps(self, l_max: int) -> tuple[Step, ...]:
        """The work of one weight update of such a network."""
        return _steps(self, l_max)


@lru_cache
def _steps(method: Method, l_max: int) -> tuple[Step, ...]:
    kind = Kind(method.rule, method.last_step(l_max), method.sigma > 0, method.schedule)
    return steps([Block(kind, 0, 1)], l_max)
