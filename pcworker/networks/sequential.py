"""Makes a predictive coding network of a torch.nn.Sequential, cut into layers where the user says.

The module of layer l maps the activity x^{l+1} to the prediction mu^l. The new network shares its
parameters with the given one: training one trains the other.
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
    """Makes a predictive coding network of `network`, whose parameters it shares.

    cuts  the names (or indices) of the children after which one layer ends and the next begins. In
          a Sequential within a Sequential, the name of a child has dots, as in its state_dict.
          None: cut after every child that has parameters, except the last. A layer then consists of
          activation functions, pooling and the like, followed by one module with weights.

    Modules that work in place are replaced by copies that do not, because a layer must not write to
    the activity above it. Move the network to its device before the call. Raises InputError if a
    cut names no child, if a module would not repeat its prediction (dropout or batch normalisation
    in training mode), if two layers share a parameter, or if there is no parameter.
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
        require_repeatable(name, module)
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
    """True if `module` calls its children one after the other, and does nothing else."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def _children(network: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yields the children with their names; in place of a nested Sequential, its children."""
    # named_children() would leave out the second place of a module that is used twice
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
    """A copy that shares parameters and buffers with `module`, and does not work in place."""
    shared = {id(t): t for t in (*module.parameters(), *module.buffers())}
    copied = copy.deepcopy(module, shared)
    for part in copied.modules():
        if getattr(part, "inplace", False):
            part.inplace = False  # type: ignore[assignment]
    return copied


def require_repeatable(name: str, module: nn.Module) -> None:
    """Raises InputError if a module would not give the same prediction twice."""
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
