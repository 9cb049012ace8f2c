"""A predictive coding network out of a torch.nn.Sequential, cut into layers where one says.

Layer l's module takes the activity x^{l+1} to the prediction mu^l. The parameters are those of the
network that was given: training the one trains the other.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from pcworker.activity import fresh
from pcworker.config import CHOICES
from pcworker.detector import FreshDetector
from pcworker.errors import InputError
from pcworker.inference import Inference, State
from pcworker.modules import ModuleLayer
from pcworker.schedule import Block, Kind, Step, steps

_DROPOUT = (nn.modules.dropout._DropoutNd, nn.RReLU)
_BATCH_NORM = (nn.modules.batchnorm._NormBase,)


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
        for name in ("rule", "schedule", "arithmetic"):
            allowed = [choice for choice in CHOICES[name] if choice != "BP"]
            if getattr(self, name) not in allowed:
                raise InputError(
                    f"{name} {getattr(self, name)!r} is unknown; allowed: {', '.join(allowed)}"
                )
        if (self.t is None) == (self.rule == "IL"):
            raise InputError(
                f"rule {self.rule} with t {self.t}: IL, and no other rule, needs t, the inference "
                "step at which it moves the weights"
            )

    def last_step(self, l_max: int) -> int:
        """The last t at which the rule looks at a network of l_max layers of weights."""
        if self.rule == "IL":
            return self.t or 0
        return self.horizon if self.rule == "Fa-Z-IL" and self.horizon is not None else l_max - 1


class PredictiveNetwork:
    """A network of modules, one trial, that learns by Eq. 5-9."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        """`modules` by l: modules[0] predicts the output, the last one sees the input."""
        self.modules = tuple(modules)
        self._parameters = [
            tuple(p for p in module.parameters() if p.requires_grad) for module in modules
        ]

    @property
    def l_max(self) -> int:
        """Index of the input layer, and the number of layers of weights."""
        return len(self.modules)

    @torch.no_grad()
    def update(
        self,
        inputs: Tensor,
        targets: Tensor,
        rate: float,
        method: Method,
        noise: Sequence[Tensor] = (),
    ) -> Tensor:
        """One weight update on one minibatch.

        inputs   x^{l_max} [B, ...]
        targets  s_out, of the shape of the network's output: E = 1/2 sum (s_out - mu^0)^2, summed
                 over the batch and over the outputs (Eq. 2, 6)
        rate     alpha, of that sum: for a mean over the batch, divide by B
        noise    for sigma > 0: standard normals of the shape of x^l, for l = l_max - 1 .. 1
        Returns the output errors s_out - mu^0 at t = 0.

        Between two updates nothing but the parameters is kept: all else is freed.
        """
        shifts = None
        if method.sigma:
            self._require_noise(noise)
            shifts = [targets, *(method.sigma * normal for normal in reversed(noise))]
        state = self._state(inputs, method)
        inference = Inference(state, trials=1, gated=method.rule == "Fa-Z-IL")
        errors = inference.start(targets, shifts)
        for step in _steps(method, self.l_max):
            inference.step(step, rate)
        return errors

    def _state(self, inputs: Tensor, method: Method) -> State:
        """In tensors that are made when they are needed."""
        last = self.l_max - 1
        layers = [
            ModuleLayer(module, parameters, clamped=l == last)
            for l, (module, parameters) in enumerate(
                zip(self.modules, self._parameters, strict=True)
            )
        ]
        each = range(self.l_max)
        return State(
            layers=list(layers),
            activity=[fresh(method.arithmetic) for _ in each],
            fx=[*(inputs.new_empty(0) for _ in each), inputs],
            mu=[inputs.new_empty(0) for _ in each],
            eps=[inputs.new_empty(0) for _ in each],
            phi=[inputs.new_empty(0, dtype=torch.bool) for _ in each],
            detector=[FreshDetector(method.t_d) for _ in each],
            buffer=[None for _ in each],
            gamma=method.gamma,
        )

    def _require_noise(self, noise: Sequence[Tensor]) -> None:
        if len(noise) != self.l_max - 1:
            raise InputError(
                f"{len(noise)} tensors of noise for {self.l_max - 1} hidden layers: with sigma > 0 "
                "give standard normals for every hidden layer, from the input side to the output"
            )


def predictive(
    network: nn.Sequential, cuts: Sequence[str | int] | None = None
) -> PredictiveNetwork:
    """A predictive coding network out of `network`, whose parameters it shares.

    cuts  names (or indices) of the children after which one layer ends and the next begins; in a
          Sequential within a Sequential a child's name has dots, as in its state_dict. None: after
          every child that has parameters but the last, so that a layer is an activation function,
          pooling and what else there is, and then the next weights.

    Modules that work in place are replaced by copies that don't, because a layer must not write to
    the activity above it. Raises InputError where a module would not give the same prediction twice
    (dropout and batch normalisation in training mode), or two layers share a parameter.
    """
    children = list(_children(network))
    names = [name for name, _ in children]
    ends = _default_cuts(children) if cuts is None else [str(cut) for cut in cuts]
    unknown = [cut for cut in ends if cut not in names]
    if unknown:
        raise InputError(
            f"cut {unknown[0]!r}: the network has no such child; allowed: {', '.join(names)}"
        )
    for name, module in children:
        _require_repeatable(name, module)
    layers: list[nn.Sequential] = []
    begun: list[nn.Module] = []
    for place, (name, module) in enumerate(children):
        begun.append(_not_in_place(module))
        if name in ends or place == len(children) - 1:
            layers.append(nn.Sequential(*begun))
            begun = []
    _require_own_parameters(layers)
    return PredictiveNetwork(layers[::-1])


@lru_cache
def _steps(method: Method, l_max: int) -> tuple[Step, ...]:
    kind = Kind(method.rule, method.last_step(l_max), method.sigma > 0, method.schedule)
    return steps([Block(kind, 0, 1)], l_max)


def _children(network: nn.Sequential, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The children by name, those of a Sequential in a Sequential included."""
    for name, module in network._modules.items():  # named_children skips repetitions
        if isinstance(module, nn.Sequential):
            yield from _children(module, f"{prefix}{name}.")
        else:
            yield prefix + name, module


def _default_cuts(children: Sequence[tuple[str, nn.Module]]) -> list[str]:
    learning = [name for name, module in children if next(module.parameters(), None) is not None]
    return learning[:-1]


def _not_in_place(module: nn.Module) -> nn.Module:
    """A copy with the same parameters and buffers, in which nothing works in place."""
    shared = {id(t): t for t in (*module.parameters(), *module.buffers())}
    copied = copy.deepcopy(module, shared)
    for part in copied.modules():
        if getattr(part, "inplace", False):
            part.inplace = False  # type: ignore[assignment]
    return copied


def _require_repeatable(name: str, module: nn.Module) -> None:
    for part in module.modules():
        if not part.training:
            continue
        if isinstance(part, _DROPOUT) and getattr(part, "p", 1.0) > 0:
            raise InputError(
                f"{name}: {part} in training mode draws anew at each prediction, and x - mu would "
                "not be 0 where nothing has changed; call network.eval() first, or leave it out"
            )
        if isinstance(part, _BATCH_NORM):
            raise InputError(
                f"{name}: {part} in training mode changes with each prediction and mixes the "
                "batch's samples; use normalisation-free blocks, or freeze it by network.eval()"
            )


def _require_own_parameters(layers: Sequence[nn.Module]) -> None:
    owner: dict[int, int] = {}
    for place, layer in enumerate(layers):
        for name, parameter in layer.named_parameters():
            if owner.setdefault(id(parameter), place) != place:
                raise InputError(
                    f"parameter {name} {tuple(parameter.shape)} belongs to two layers; a rule that "
                    "moves layers at different t needs a parameter for each: give each a copy, or "
                    "cut so that both are in one layer"
                )
    if not owner:
        raise InputError(
            "the network has no parameters, and nothing to learn: give at least one module that has"
        )
