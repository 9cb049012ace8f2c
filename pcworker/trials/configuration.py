"""What defines a training on MNIST, but its seed: frozen values, checked when they are made."""

import math
import re
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from pcworker.errors import InputError

Rule = Literal["BP", "IL", "Z-IL", "Fa-Z-IL"]
ActivationName = Literal["sigmoid", "tanh", "relu"]
Init = Literal["xavier", "linear", "glorot4"]
Reduction = Literal["sum", "mean"]
Targets = Literal["onehot", "soft"]
Dtype = Literal["float32", "float64"]
Arithmetic = Literal["displacement", "textbook"]
Schedule = Literal["layerwise", "literal"]

CHOICES: dict[str, tuple[str, ...]] = {
    "rule": get_args(Rule),
    "activation": get_args(ActivationName),
    "init": get_args(Init),
    "reduction": get_args(Reduction),
    "targets": get_args(Targets),
    "dtype": get_args(Dtype),
    "arithmetic": get_args(Arithmetic),
    "schedule": get_args(Schedule),
}


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """Everything that defines a training on MNIST but its seed.

    A field that the rule does not use is None, so that equal trainings are equal values; the
    function `configuration` sets those. Layers are counted from the output, l = 0 .. l_max.
    """

    network: str
    """Widths from the input to the output: "784-32-32-10"."""
    activation: str
    """f in Eq. 5; the input enters without f, the output layer is linear."""
    bias: bool
    rule: str
    t: int | None
    """The inference step at which IL moves all weights; None for the other rules."""
    t_d: int | None
    """Fa-Z-IL: inference steps for which an error must have been 0 before phi can be 1."""
    horizon: int | None
    """Fa-Z-IL: T, its last inference step."""
    gamma: float | None
    """Integration step of inference, Eq. 7; None where no activity ever moves (BP, t = 0)."""
    sigma: float | None
    """Standard deviation of x^l_0 around mu^l_0 in the hidden layers (0: condition C1 holds)."""
    alpha: float
    """Learning rate, Eq. 9."""
    batch_size: int
    epochs: int
    init: str
    """"xavier": uniform, Glorot's bound; "linear": torch.nn.Linear's; "glorot4": 4 x Glorot's."""
    reduction: str
    """"sum": a weight update sums over the batch; "mean": alpha is divided by the batch's size."""
    targets: str
    """"onehot": 0 and 1; "soft": 0.03 and 0.97."""
    dtype: str
    arithmetic: str | None
    schedule: str | None

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            value = getattr(self, name)
            if value is None and name in ("arithmetic", "schedule") and self.rule == "BP":
                continue
            if value not in allowed:
                raise InputError(f"{name} {value!r} is unknown; allowed: {', '.join(allowed)}")
        _widths(self.network)
        require_at_least("t", self.t, 0)
        require_at_least("t_d", self.t_d, 1)
        require_at_least("horizon", self.horizon, 0)
        require_at_least("batch_size", self.batch_size, 1)
        require_at_least("epochs", self.epochs, 1)
        _positive("gamma", self.gamma)
        _positive("alpha", self.alpha)
        if self.sigma is not None and not 0 <= self.sigma < math.inf:
            raise InputError(f"sigma {self.sigma}: must be a finite number of at least 0")

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths by layer index: widths[0] is the output's, widths[l_max] the input's."""
        return tuple(reversed(_widths(self.network)))

    @property
    def l_max(self) -> int:
        """Index of the input layer."""
        return len(_widths(self.network)) - 1

    @property
    def hidden_layers(self) -> int:
        return self.l_max - 1

    @property
    def last_step(self) -> int:
        """The last t at which the rule looks at the network."""
        if self.rule == "IL":
            return self.t or 0
        if self.rule == "Fa-Z-IL":
            return self.horizon or 0
        return self.l_max - 1 if self.rule == "Z-IL" else 0

    @property
    def noisy(self) -> bool:
        """Whether hidden activities start away from their predictions (C1 broken)."""
        return bool(self.sigma)

    def twin(self) -> "Configuration":
        """The BP configuration equal in everything but rule, t, gamma, sigma, t_d, horizon,
        schedule and arithmetic: what divergence is measured from."""
        names = ("t", "t_d", "horizon", "gamma", "sigma", "arithmetic", "schedule")
        unused: dict[str, Any] = dict.fromkeys(names)
        return replace(self, rule="BP", **unused)


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
) -> Configuration:
    """The canonical configuration: parameters that `rule` does not use are dropped.

    IL needs `t`. Fa-Z-IL's `horizon` is l_max - 1 by default. The `schedule` is by default
    layerwise where that gives the bits of the literal one, and literal for Fa-Z-IL, where it may
    not. Every parameter is checked, also those that are dropped. Raises InputError naming the
    parameter, its value and what is allowed.
    """
    if rule == "IL" and t is None:
        raise InputError("rule IL needs t, the inference step at which it moves the weights")
    everything = Configuration(
        network=network,
        activation=activation,
        bias=bias,
        rule=rule,
        t=t,
        t_d=t_d,
        horizon=len(_widths(network)) - 2 if horizon is None else horizon,
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
        schedule=schedule or ("literal" if rule == "Fa-Z-IL" else "layerwise"),
    )
    unused: dict[str, Any] = {}
    if rule != "IL":
        unused |= {"t": None}
    if rule != "Fa-Z-IL":
        unused |= {"t_d": None, "horizon": None}
    if rule == "BP":
        unused |= {"gamma": None, "sigma": None, "arithmetic": None, "schedule": None}
    if rule == "IL" and t == 0:
        unused |= {"gamma": None}
    return replace(everything, **unused)


def stack_key(config: Configuration) -> Configuration:
    """What trials of one stack must share. (Each has its own rule, t, gamma, sigma, t_d, horizon,
    schedule and seed.)"""
    return replace(config.twin(), arithmetic=config.arithmetic)


def _widths(network: str) -> tuple[int, ...]:
    if not re.fullmatch(r"[1-9][0-9]*(-[1-9][0-9]*)+", network):  # one spelling: it is identity
        raise InputError(
            f"network {network!r}: give the widths from the input to the output, as in 784-32-32-10"
        )
    return tuple(int(width) for width in network.split("-"))


def require_at_least(name: str, value: int | None, least: int) -> None:
    """Raises InputError unless `value` is None, or a whole number that is large enough."""
    if value is not None and (type(value) is not int or not least <= value < 2**31):
        raise InputError(f"{name} {value}: must be a whole number of at least {least}, below 2^31")


def _positive(name: str, value: float | None) -> None:
    if value is not None and not 0 < value < math.inf:
        raise InputError(f"{name} {value}: must be a finite number above 0")
