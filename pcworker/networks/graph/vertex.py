"""A vertex: some operations of a traced module, from the activities that they read to a prediction.

For the error of its prediction one vector-Jacobian product gives both what is pulled back to the
activities and the changes of the parameters. Each operation reads an activity or a parameter
through a leaf of its own. So the gradients of several operations come apart, and the caller adds
them up in the order in which autograd adds them in the whole network.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call

from pcworker.errors import InputError
from pcworker.networks.graph.structure import Use


@dataclass(frozen=True)
class Change:
    """The gradient of a parameter in one operation."""

    parameter: int
    """The parameter's place in the network's list of parameters."""
    place: int
    """The operation's place in the order of execution."""
    value: Tensor


@dataclass(frozen=True)
class Pulled:
    """What an error pulls back."""

    activities: Mapping[Use, Tensor]
    changes: Sequence[Change]


class Vertex:
    """The operations between some activities and the next one."""

    def __init__(
        self,
        name: str,
        operations: Sequence[fx.Node],
        places: Mapping[fx.Node, int],
        owners: Mapping[fx.Node, str],
        root: nn.Module,
        parameters: Sequence[nn.Parameter],
    ) -> None:
        """
        operations  in the order of execution; the last one gives the prediction
        places      the place of each operation of the network in that order
        owners      the name of the vertex, or of the input, that each readable node stands for
        root        the module that the operations' targets are in
        parameters  those of the network that learn
        """
        self.name = name
        self._operations, self._places, self._owners = operations, places, owners
        self._root = root
        self._index = {id(p): k for k, p in enumerate(parameters)}
        self._mu: Tensor | None = None
        """The last prediction, with autograd's record of how it was made."""
        self._leaves: dict[Use, Tensor] = {}
        self._read: dict[tuple[int, int], Tensor] = {}
        """The leaves of parameters, by the parameter's place and the operation's."""

    @cached_property
    def reads(self) -> frozenset[tuple[int, int]]:
        """The places of the parameters that learn, each with that of an operation that reads it."""
        return frozenset(
            (self._index[id(p)], self._places[node])
            for node in self._operations
            for p in self._parameters_of(node).values()
            if id(p) in self._index
        )

    @cached_property
    def _read_once(self) -> frozenset[int]:
        """The places of the parameters that one operation of the vertex reads. They are their own
        leaves: a call with others in their place takes 0.1 ms longer."""
        counts = Counter(k for k, _ in self.reads)
        return frozenset(k for k, count in counts.items() if count == 1)

    def predict(self, values: Mapping[Use, Tensor], known: Mapping[str, Tensor]) -> Tensor:
        """mu for the activities that the operations read, by use (Eq. 5).

        known  the network's inputs, and tensors in the shapes of the activities, by name

        Raises InputError if the prediction is not a tensor of floating-point numbers.
        """
        self._forget()
        env: dict[fx.Node, Any] = {}
        with torch.enable_grad():
            for node in self._operations:
                env[node] = self._run(node, env, values, known)
        mu = env[self._operations[-1]]
        if not isinstance(mu, Tensor) or not mu.is_floating_point():
            kind = mu.dtype if isinstance(mu, Tensor) else type(mu).__name__
            raise InputError(
                f"the activity of {self.name} is {kind}; an activity must be a tensor of real "
                "floating-point numbers, so cut the network elsewhere"
            )
        self._mu = mu
        return mu.detach()

    def pull(self, eps: Tensor, taught: Tensor | None) -> Pulled:
        """(d mu / d x)^T eps for each use of an activity (Eq. 7), and the gradients of the
        parameters by operation, for the error `taught` (Eq. 9). It can be called once for each
        prediction.

        taught  the error from which the parameters learn; None: they do not. If it is `eps` itself,
                one computation gives both
        """
        assert self._mu is not None, "a vertex predicts, then pulls back"
        xs, ps = list(self._leaves), list(self._read) if taught is not None else []
        if taught is None or taught is eps:
            found = self._grad([*self._leaves.values(), *(self._read[p] for p in ps)], eps)
        else:
            found = self._grad(list(self._leaves.values()), eps, keep=True)
            found += self._grad([self._read[p] for p in ps], taught)
        self._forget()
        pulled, changes = zip(xs, found, strict=False), zip(ps, found[len(xs) :], strict=True)
        return Pulled(
            {use: value for use, value in pulled if value is not None},
            [Change(k, place, value) for (k, place), value in changes if value is not None],
        )

    def _grad(self, leaves: list[Tensor], eps: Tensor, keep: bool = False) -> list[Tensor | None]:
        assert self._mu is not None
        if not leaves or self._mu.grad_fn is None:
            return [None for _ in leaves]
        kept = {"allow_unused": True, "retain_graph": keep}
        return list(torch.autograd.grad(self._mu, leaves, eps, **kept))

    def repeated(self) -> list[Use | tuple[int, int]]:
        """The leaves that a single operation of the last prediction reads several times inside: the
        uses of activities, and the places in the list of parameters with the operations' places."""
        if self._mu is None:
            return []
        edges = _edges(self._mu)
        found: list[Use | tuple[int, int]] = [
            use for use, leaf in self._leaves.items() if edges.get(id(leaf), 0) > 1
        ]
        found += [read for read, leaf in self._read.items() if edges.get(id(leaf), 0) > 1]
        return found

    def _forget(self) -> None:
        self._mu, self._leaves, self._read = None, {}, {}

    def _run(
        self,
        node: fx.Node,
        env: Mapping[fx.Node, Any],
        values: Mapping[Use, Tensor],
        known: Mapping[str, Tensor],
    ) -> Any:
        place = self._places[node]

        def read(other: fx.Node) -> Any:
            if other in env:
                return env[other]
            if other.op == "get_attr":
                return self._attribute(other, place)
            use = Use(self._owners[other], self.name, place)
            if use not in values:  # It is an input of the network, or only its shape is read.
                return known[use.parent]
            if use not in self._leaves:
                self._leaves[use] = values[use].detach().requires_grad_()
            return self._leaves[use]

        args, kwargs = fx.node.map_arg((node.args, node.kwargs), read)
        if node.op == "call_module":
            module, own = self._root.get_submodule(str(node.target)), self._parameters_of(node)
            leaves = {name: self._leaf(p, place) for name, p in own.items()}
            if all(leaves[name] is p for name, p in own.items()):
                return module(*args, **kwargs)
            return functional_call(module, leaves, args, kwargs, tie_weights=False)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        assert callable(node.target)
        return node.target(*args, **kwargs)

    def _parameters_of(self, node: fx.Node) -> Mapping[str, nn.Parameter]:
        """The parameters that an operation reads, by a name that is its own."""
        if node.op == "call_module":
            module = self._root.get_submodule(str(node.target))
            return dict(module.named_parameters(remove_duplicate=False))
        read = [n for n in node.all_input_nodes if n.op == "get_attr"]
        found = {str(n.target): _attribute(self._root, str(n.target)) for n in read}
        return {name: p for name, p in found.items() if isinstance(p, nn.Parameter)}

    def _attribute(self, node: fx.Node, place: int) -> Any:
        value = _attribute(self._root, str(node.target))
        return self._leaf(value, place) if isinstance(value, nn.Parameter) else value

    def _leaf(self, parameter: nn.Parameter, place: int) -> Tensor:
        k = self._index.get(id(parameter))
        if k is None:  # It does not learn.
            return parameter
        if (k, place) not in self._read:
            alone = k in self._read_once
            self._read[k, place] = parameter if alone else parameter.detach().requires_grad_()
        return self._read[k, place]


def _attribute(root: nn.Module, target: str) -> Any:
    owner, _, name = target.rpartition(".")
    return getattr(root.get_submodule(owner), name)


def _edges(mu: Tensor) -> dict[int, int]:
    """How many edges of the graph of autograd lead to each leaf, by the leaf's id."""
    found: dict[int, int] = {}
    seen, waiting = set(), [mu.grad_fn]
    while waiting:
        function = waiting.pop()
        if function is None or function in seen:
            continue
        seen.add(function)
        for following, _ in function.next_functions:
            if (leaf := getattr(following, "variable", None)) is not None:
                found[id(leaf)] = found.get(id(leaf), 0) + 1
            else:
                waiting.append(following)
    return found
