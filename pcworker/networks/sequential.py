"""A predictive coding network out of a torch.nn.Sequential, cut into layers where one says.

Layer l's module takes the activity x^{l+1} to the prediction mu^l. The parameters are those of the
network that was given: training the one trains the other.
"""

import copy
from collections.abc import Iterator, Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from pcworker.errors import InputError
from pcworker.networks.predictive_network import PredictiveNetwork


def predictive(
    network: nn.Sequential, cuts: Sequence[str | int] | None = None
) -> PredictiveNetwork:
    """A predictive coding network out of `network`, whose parameters it shares.

    cuts  names (or indices) of the children after which one layer ends and the next begins; in a
          Sequential within a Sequential a child's name has dots, as in its state_dict. None: after
          every child that has parameters but the last, so that a layer is an activation function,
          pooling and what else there is, and then the next weights.

    Modules that work in place are replaced by copies that don't, because a layer must not write to
    the activity above it. Put the network on its device before. Raises InputError where a module
    would not give the same prediction twice (dropout and batch normalisation in training mode), or
    two layers share a parameter.
    """
    if not _is_sequence(network):
        raise InputError(
            f"a {type(network).__name__}: give an nn.Sequential whose children follow one another; "
            "a child may be any module, so wrap what branches and joins in one"
        )
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


def _is_sequence(module: nn.Module) -> bool:
    """Whether its forward is its children's, one after the other."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def _children(network: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The children by name, those of a Sequential in a Sequential included."""
    # named_children() leaves out the second place of a module that is used twice
    for name, module in network._modules.items():
        assert module is not None
        if _is_sequence(module):
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
        if isinstance(part, (_DropoutNd, nn.RReLU)) and getattr(part, "p", 1.0) > 0:
            raise InputError(
                f"{name}: {part} in training mode draws anew at each prediction, and x - mu would "
                "not be 0 where nothing has changed; call network.eval() first, or leave it out"
            )
        if isinstance(part, _BatchNorm) or getattr(part, "track_running_stats", False):
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
