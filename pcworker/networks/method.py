"""How a network of modules learns: a rule and its parameters, as one value."""

from dataclasses import asdict, dataclass
from functools import lru_cache

from pcworker.equations.rules import RULES
from pcworker.equations.schedule import Block, Kind, Step, steps
from pcworker.errors import InputError
from pcworker.trials.configuration import configuration


@dataclass(frozen=True, kw_only=True)
class Method:
    """A rule that runs inference, and its parameters. The letters are those of Eq. 5-9.

    Raises InputError for BP, and for a parameter that is not allowed.
    """

    rule: str
    """"IL", "Z-IL" or "Fa-Z-IL"."""
    t: int | None = None
    """IL: the inference step at which it moves all weights (the paper's t_c)."""
    gamma: float = 1.0
    """The integration step of inference (Eq. 7)."""
    sigma: float = 0.0
    """The standard deviation of x^l_0 around mu^l_0 in the hidden layers."""
    t_d: int = 4
    """Fa-Z-IL: the number of steps for which an error must have been 0 before phi can be 1."""
    horizon: int | None = None
    """Fa-Z-IL: its last inference step; None: l_max - 1."""
    schedule: str = "layerwise"
    arithmetic: str = "displacement"

    def __post_init__(self) -> None:
        known = RULES.get(self.rule)
        if known and not known.infers:
            allowed = ", ".join(name for name, rule in RULES.items() if rule.infers)
            raise InputError(f"rule {self.rule} is torch.autograd's own; allowed: {allowed}")
        configuration(**asdict(self))  # a trial on MNIST has the same limits, and raises

    @property
    def gated(self) -> bool:
        """True if phi gates the weight updates."""
        return RULES[self.rule].gated

    def last_step(self, l_max: int) -> int:
        """The last t at which the rule looks at a network of l_max layers of weights."""
        return RULES[self.rule].last_step(l_max, t=self.t, horizon=self.horizon)

    def steps(self, l_max: int) -> tuple[Step, ...]:
        """The work of one weight update of such a network."""
        return _steps(self, l_max)


@lru_cache
def _steps(method: Method, l_max: int) -> tuple[Step, ...]:
    kind = Kind(method.rule, method.last_step(l_max), method.sigma > 0, method.schedule)
    return steps([Block(kind, 0, 1)], l_max)
