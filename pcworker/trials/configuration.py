"""Everything that defines a training on MNIST but its seed: frozen values, checked when made."""

import math
import re
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, ClassVar

from pcworker.equations.rules import BP, FA_Z_IL, RULES, rule_named
from pcworker.errors import InputError

CHOICES: dict[str, tuple[str, ...]] = {
    "rule": tuple(RULES),
    "activation": ("sigmoid", "tanh", "relu"),
    "init": ("xavier", "linear", "glorot4"),
    "reduction": ("sum", "mean"),
    "targets": ("onehot", "soft"),
    "dtype": ("float32", "float64"),
    "arithmetic": ("displacement", "textbook"),
    "schedule": ("layerwise", "literal"),
    "sums": ("fixed", "library"),
    "execution": ("plain", "compiled", "graph"),
}
"""The allowed values of every field that is chosen from a list."""


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """Everything that defines a training on MNIST but its seed.

    A field that the rule does not use is None, so that equal trainings are equal values. The
    function `configuration` sets those fields. Layers are counted from the output, l = 0 .. l_max.
    Raises InputError for a value that is not allowed.
    """

    engine_version: ClassVar[int] = 2
    """Raise it when the numbers of a trial change on purpose. 1: torch's random numbers."""

    network: str
    """The widths from the input to the output: "784-32-32-10"."""
    activation: str
    """f in Eq. 5. The input enters without f, and the output layer is linear."""
    bias: bool
    rule: str
    """The name of a rule of `pcworker.equations.rules`."""
    t: int | None
    """IL: the inference step at which it moves all weights."""
    t_d: int | None
    """Fa-Z-IL: the number of steps for which an error must have been 0 before phi can be 1."""
    horizon: int | None
    """Fa-Z-IL: T, its last inference step."""
    gamma: float | None
    """The integration step of inference (Eq. 7). None where no activity ever moves (BP, t = 0)."""
    sigma: float | None
    """The standard deviation of x^l_0 around mu^l_0 in the hidden layers. 0: condition C1 holds."""
    alpha: float
    """The learning rate (Eq. 9)."""
    batch_size: int
    epochs: int
    init: str
    """"xavier": uniform with Glorot's bound; "linear": as torch.nn.Linear; "glorot4": uniform with
    4 times Glorot's bound."""
    reduction: str
    """"sum": a weight update sums over the batch; "mean": alpha is divided by the batch's size."""
    targets: str
    """"onehot": 0 and 1; "soft": 0.03 and 0.97."""
    dtype: str
    arithmetic: str | None
    """How an activity is held, see `pcworker.equations.activity`."""
    schedule: str | None
    """How much of inference is computed, see `pcworker.equations.schedule`."""
    sums: str
    """The order in which products add up. "fixed": the defined one of `pcworker.kernels.fixed`, so
    that all machines give the same bits; "library": that of torch, which depends on the machine."""

    def __post_init__(self) -> None:
        require_choices(self)
        _widths(self.network)
        require_at_least("t", self.t, 0)
        require_at_least("t_d", self.t_d, 1)
        require_at_least("horizon", self.horizon, 0)
        require_at_least("batch_size", self.batch_size, 1)
        require_at_least("epochs", self.epochs, 1)
        _require_positive("gamma", self.gamma)
        _require_positive("alpha", self.alpha)
        if self.sigma is not None and not 0 <= self.sigma < math.inf:
            raise InputError(f"sigma {self.sigma}: must be a finite number of at least 0")

    @property
    def widths(self) -> tuple[int, ...]:
        """The widths by layer: widths[0] is the output's, widths[l_max] the input's."""
        return tuple(reversed(_widths(self.network)))

    @property
    def l_max(self) -> int:
        """The index of the input layer, which is the number of layers of weights."""
        return len(_widths(self.network)) - 1

    @property
    def hidden_layers(self) -> int:
        return self.l_max - 1

    @cached_property
    def last_step(self) -> int:
        """The last t at which the rule looks at the network."""
        return RULES[self.rule].last_step(self.l_max, t=self.t, horizon=self.horizon)

    @property
    def noisy(self) -> bool:
        """True if hidden activities start away from their predictions, which breaks C1."""
        return bool(self.sigma)

    def rate(self, batch: int) -> float:
        """The learning rate of a weight update that sums over a batch of `batch` samples."""
        return self.alpha / (batch if self.reduction == "mean" else 1)

    def twin(self) -> "Configuration":
        """The BP configuration of the same training, from which divergence is measured.

        It is equal in every field that BP uses.
        """
        return self._twin

    @cached_property
    def _twin(self) -> "Configuration":
        return replace(self, rule=BP.name, **BP.unused(self))


def configuration(
    *,
    network: str = "784-32-32-10",
    rule: str,
    t: int | None = None,
    gamma: float = 1.0,
    sigma: float = 0.0,
    t_d: int = 4,
    horizon: int | None = None,
    activation: str = "sigmoid",
    bias: bool = False,
    alpha: float = 0.001,
    batch_size: int = 20,
    epochs: int = 1,
    init: str = "xavier",
    reduction: str = "sum",
    targets: str = "onehot",
    dtype: str = "float32",
    arithmetic: str = "displacement",
    schedule: str | None = None,
    sums: str = "fixed",
) -> Configuration:
    """The canonical configuration, in which parameters that `rule` does not use are None.

    Every parameter is checked, also those that are dropped. Raises InputError with the parameter,
    its value and what is allowed.

    t         has no default, and IL needs it
    horizon   None: l_max - 1
    schedule  None: layerwise where that gives the bits of the literal one, and literal for Fa-Z-IL,
              where it may not
    """
    chosen = rule_named(rule)
    chosen.require_t(t)
    everything = Configuration(
        network=network,
        activation=activation,
        bias=bias,
        rule=rule,
        t=t,
        t_d=t_d,
        horizon=FA_Z_IL.last_step(len(_widths(network)) - 1, horizon=horizon),
        gamma=float(gamma),
        sigma=float(sigma) + 0.0,  # -0.0 becomes 0.0
        alpha=float(alpha),
        batch_size=batch_size,
        epochs=epochs,
        init=init,
        reduction=reduction,
        targets=targets,
        dtype=dtype,
        arithmetic=arithmetic,
        schedule=schedule or chosen.default_schedule,
        sums=sums,
    )
    made = replace(everything, **chosen.unused(everything))
    return replace(made, gamma=None) if made.t == 0 else made  # no activity moves before t = 1


@lru_cache(maxsize=4096)
def stack_key(config: Configuration) -> Configuration:
    """Equal for configurations whose trials may be trained together.

    Each trial has its own rule, t, gamma, sigma, t_d, horizon, schedule and seed.
    """
    return replace(config.twin(), arithmetic=config.arithmetic)


def require_choices(config: Any) -> None:
    """Raises InputError if a field of `config` that is chosen from CHOICES has another value.

    A parameter that the rule of `config` does not use may be None.
    """
    unused = rule_named(config.rule).unused(config)
    for name in CHOICES:
        if hasattr(config, name) and not (name in unused and getattr(config, name) is None):
            require_choice(name, getattr(config, name))


def require_choice(name: str, value: object) -> None:
    """Raises InputError unless `value` is one of CHOICES[name]."""
    allowed = CHOICES[name]
    if value not in allowed:
        raise InputError(f"{name} {value!r} is unknown; allowed: {', '.join(allowed)}")


def require_at_least(name: str, value: int | None, least: int) -> None:
    """Raises InputError unless `value` is None, or a whole number from `least` to 2^31 - 1."""
    if value is not None and (type(value) is not int or not least <= value < 2**31):
        raise InputError(f"{name} {value}: must be a whole number of at least {least}, below 2^31")


def _require_positive(name: str, value: float | None) -> None:
    if value is not None and not 0 < value < math.inf:
        raise InputError(f"{name} {value}: must be a finite number above 0")


@lru_cache(maxsize=4096)
def _widths(network: str) -> tuple[int, ...]:
    """The widths in the text. Only one spelling is allowed, because the text is part of a trial's
    identity."""
    if not re.fullmatch(r"[1-9][0-9]{0,8}(-[1-9][0-9]{0,8})+", network):
        raise InputError(
            f"network {network!r}: give the widths from the input to the output, each below 10^9, "
            "as in 784-32-32-10"
        )
    return tuple(int(width) for width in network.split("-"))
