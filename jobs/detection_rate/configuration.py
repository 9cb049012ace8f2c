"""Configurations of the detection runs (the paper's Table 3): how well phi finds t = l."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

from pcworker.errors import InputError
from pcworker.trials.configuration import Configuration, configuration, require_at_least

T_D = (1, 2, 3, 4, 5, 6, 7, 8, 16)
"""The columns of Table 3."""
WEIGHT_CHOICES = ("learning", "still")
N = TypeVar("N", int, float)


@dataclass(frozen=True, kw_only=True)
class DetectionConfiguration:
    """Everything that defines such a run but its seed. Lists are texts with commas between numbers
    that rise: a configuration is its own identity, and has one spelling."""

    epochs: ClassVar[int] = 1
    """A shard has no checkpoints, and one digest of the weights that it has trained."""
    rule: ClassVar[str] = "Fa-Z-IL"

    network: str
    activation: str
    dtype: str
    arithmetic: str
    gamma: float
    weights: str
    """While inference runs: "learning", as phi of the t_d that is looked at lets them (Algorithm
    2), or "still": they do not move."""
    alpha: float
    batch_size: int
    minibatches: int
    """Of test digits, that are looked at in each stage; each begins with the stage's weights."""
    stages: str
    """Weight updates of plain BP before."""
    horizons: str
    """Last inference steps up to which spikes are counted; inference runs to the largest."""
    tolerances: str
    """What counts as zero: |eps| of at most this."""

    def __post_init__(self) -> None:
        if self.weights not in WEIGHT_CHOICES:
            raise InputError(
                f"weights {self.weights!r} is unknown; allowed: {', '.join(WEIGHT_CHOICES)}"
            )
        require_at_least("minibatches", self.minibatches, 1)
        least = self.training.l_max - 1
        for name, text, kind, low in (
            ("stages", self.stages, int, 0),
            ("horizons", self.horizons, int, least),
            ("tolerances", self.tolerances, float, 0),
        ):
            if text != _text(_numbers(name, text, kind, low)):
                raise InputError(f"{name} {text!r}: give each number once, in rising order")
        self.inference(T_D[0])  # has limits, too, and raises

    @property
    def stage_list(self) -> list[int]:
        return _numbers("stages", self.stages, int, 0)

    @property
    def horizon_list(self) -> list[int]:
        return _numbers("horizons", self.horizons, int, 0)

    @property
    def tolerance_list(self) -> list[float]:
        return _numbers("tolerances", self.tolerances, float, 0)

    @property
    def l_max(self) -> int:
        return self.training.l_max

    @property
    def training(self) -> Configuration:
        """By which the weights come to a stage."""
        return self._of("BP")

    def inference(self, t_d: int) -> Configuration:
        """Of a stage's minibatches: every neuron at every step, up to the largest horizon."""
        return self._of("Fa-Z-IL", t_d=t_d, horizon=self.horizon_list[-1], schedule="literal")

    def twin(self) -> "DetectionConfiguration":
        """That which has the same training, whatever is looked at then: the weights that it trains
        must be this one's, bit for bit."""
        return replace(self, arithmetic="displacement", gamma=1.0, weights="learning")

    def _of(self, rule: str, **values: Any) -> Configuration:
        return configuration(
            network=self.network,
            rule=rule,
            activation=self.activation,
            dtype=self.dtype,
            arithmetic=self.arithmetic,
            gamma=self.gamma,
            alpha=self.alpha,
            batch_size=self.batch_size,
            **values,
        )


def detection_configuration(
    *,
    network: str,
    horizons: Iterable[int | None],
    stages: Iterable[int],
    tolerances: Iterable[float],
    activation: str = "sigmoid",
    dtype: str = "float32",
    arithmetic: str = "textbook",
    gamma: float = 1.0,
    weights: str = "learning",
    alpha: float = 0.001,
    batch_size: int = 20,
    minibatches: int = 10,
) -> DetectionConfiguration:
    """The configuration with its lists in order; a horizon of None is l_max - 1. Raises InputError
    naming what is wrong and what is allowed."""
    last = network.count("-") - 1
    return DetectionConfiguration(
        network=network,
        activation=activation,
        dtype=dtype,
        arithmetic=arithmetic,
        gamma=float(gamma),
        weights=weights,
        alpha=float(alpha),
        batch_size=batch_size,
        minibatches=minibatches,
        stages=_text(stages),
        horizons=_text(last if horizon is None else horizon for horizon in horizons),
        tolerances=_text(float(tolerance) + 0.0 for tolerance in tolerances),
    )


def _text(numbers: Iterable[float]) -> str:
    return ",".join(map(repr, sorted(set(numbers))))


def _numbers(name: str, text: str, kind: Callable[[str], N], least: int) -> list[N]:
    try:
        found = [kind(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"{name} {text!r}: give numbers with commas between them") from error
    if wrong := [number for number in found if not least <= number < 2**31]:
        raise InputError(f"{name} {wrong[0]}: must be at least {least}, below 2^31")
    return found
