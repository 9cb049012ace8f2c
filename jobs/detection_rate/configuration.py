"""Defines a configuration of the detection runs (the paper's Table 3)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

from pcworker.equations.rules import BP, FA_Z_IL
from pcworker.errors import InputError
from pcworker.trials.configuration import Configuration, configuration, require_at_least

T_D = (1, 2, 3, 4, 5, 6, 7, 8, 16)
"""The values of t_d in the columns of Table 3."""
WEIGHT_CHOICES = ("learning", "still")
N = TypeVar("N", int, float)


@dataclass(frozen=True, kw_only=True)
class DetectionConfiguration:
    """Everything that defines a detection run, except its seed.

    Lists are texts of increasing numbers with commas between them. A configuration is the identity
    of a trial, so each list must have only one spelling.
    """

    engine_version: ClassVar[int] = Configuration.engine_version
    epochs: ClassVar[int] = 1
    """A shard has no checkpoints, and one digest of the weights that it trained."""
    rule: ClassVar[str] = FA_Z_IL.name

    network: str
    activation: str
    dtype: str
    arithmetic: str
    gamma: float
    weights: str
    """What the weights do during inference. "learning": they move as phi with the t_d in question
    allows (Algorithm 2). "still": they do not move."""
    alpha: float
    batch_size: int
    minibatches: int
    """The number of minibatches of test digits in each stage. Each begins with the stage's
    weights."""
    stages: str
    """The numbers of weight updates of plain BP after which inference is watched."""
    horizons: str
    """The last inference steps up to which spikes are counted. Inference runs to the largest."""
    tolerances: str
    """The largest values of |eps| that count as zero."""
    sums: str
    """The order in which products add up, as in `pcworker.trials.configuration`."""

    def __post_init__(self) -> None:
        if self.weights not in WEIGHT_CHOICES:
            raise InputError(
                f"weights {self.weights!r} is unknown; allowed: {', '.join(WEIGHT_CHOICES)}"
            )
        require_at_least("minibatches", self.minibatches, 1)
        least = FA_Z_IL.last_step(self.training.l_max)
        for name, text, kind, low in (
            ("stages", self.stages, int, 0),
            ("horizons", self.horizons, int, least),
            ("tolerances", self.tolerances, float, 0),
        ):
            if text != _text(_numbers(name, text, kind, low)):
                raise InputError(f"{name} {text!r}: give each number once, in rising order")
        self.inference(T_D[0])  # it raises if a value is out of the limits of inference

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
        """The configuration of BP that trains the weights of the stages."""
        return self._of(BP.name)

    def inference(self, t_d: int) -> Configuration:
        """The configuration of literal Fa-Z-IL that is watched, up to the largest horizon."""
        return self._of(FA_Z_IL.name, t_d=t_d, horizon=self.horizon_list[-1], schedule="literal")

    def twin(self) -> "DetectionConfiguration":
        """One configuration that stands for all with the same training. They train the same
        weights, bit for bit, so the collector can check one trial against the others."""
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
            sums=self.sums,
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
    sums: str = "fixed",
) -> DetectionConfiguration:
    """Makes a configuration, with each list in increasing order. A horizon of None is l_max - 1.

    Raises InputError that says what is wrong and what is allowed.
    """
    last = FA_Z_IL.last_step(network.count("-"))
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
        sums=sums,
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
