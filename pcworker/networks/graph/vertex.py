"""A vertex: some operations of a traced module, from the activities that they read to a prediction.

For the error of its prediction one vector-Jacobian product gives both what is pulled back to the
activities and the changes of the parameters. Each operation reads an activity or a parameter
through a leaf of its own. So the gradients of several operations come apart, and the caller adds
them up in the order in which autograd adds them in the whole network.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
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


@dataclass(frozen=True)
class _Slot:
    """A place in the list of values that a prediction uses and makes."""

    place: int


@dataclass(frozen=True)
class _Step:
    """An operation of a prediction, with a slot wherever it reads a value."""

    call: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]
    flat: bool
    """True if no slot is inside of another argument. Then to fill them is quick."""

    def __call__(self, values: Sequence[Any]) -> Any:
        """Runs the operation on the values that its slots stand for."""
        if self.flat:
            filled = [values[a.place] if type(a) is _Slot else a for a in self.arguments]
            return self.call(*filled, **self.keywords)

        def fill(argument: Any) -> Any:
            return values[argument.place] if type(argument) is _Slot else argument

        arguments, keywords = fx.node.map_aggregate((self.arguments, dict(self.keywords)), fill)
        return self.call(*arguments, **keywords)


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
        self._root, self._learning = root, parameters
        self._index = {id(p): k for k, p in enumerate(parameters)}
        self._mu: Tensor | None = None
        """The last prediction, with autograd's record of how it was made."""
        self._leaves: dict[Use, Tensor] = {}
        self._read: dict[tuple[int, int], Tensor] = {}
        """The leaves of parameters, by the parameter's place and the operation's."""
        self._slots: dict[Use | tuple[int, int] | str, _Slot] = {}
        """Where the leaves and what is known stand in the list of values, before all results."""
        self._steps = self._compiled()

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
        made = [self._value(key, values, known) for key in self._slots]
        with torch.enable_grad():
            for step in self._steps:
                made.append(step(made))
        mu = made[-1]
        if not isinstance(mu, Tensor) or not mu.is_floating_point():
            kind = mu.dtype if isinstance(mu, Tensor) else type(mu).__name__
            raise InputError(
                f"the activity of {self.name} is {kind}; an activity must be a tensor of real "
                "floating-point numbers, so cut the network elsewhere"
            )
        self._mu = mu
        # A view of a parameter would move with it, and x with its own prediction.
        memory = {p.untyped_storage().data_ptr() for p in self._read.values()}
        is_view = mu.untyped_storage().data_ptr() in memory
        return mu.detach().clone() if is_view else mu.detach()

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
        self.forget()
        pulled, changes = zip(xs, found, strict=False), zip(ps, found[len(xs) :], strict=True)
        return Pulled(
            {use: value for use, value in pulled if value is not None},
            [Change(k, place, value) for (k, place), value in changes if value is not None],
        )

    def _grad(self, leaves: list[Tensor], eps: Tensor, keep: bool = False) -> list[Tensor | None]:
        assert self._mu is not None
        if not leaves or not self._mu.requires_grad:
            return [None for _ in leaves]
        kept = {"allow_unused": True, "retain_graph": keep}
        return list(torch.autograd.grad(self._mu, leaves, eps, **kept))

    def repeated(self) -> list[Use | tuple[int, int]]:
        """The leaves that a single operation of the last prediction reads several times inside: the
        uses of activities, and the places in the list of parameters with the operations' places."""
        if self._mu is None:
            return []
        counts = edges(self._mu)
        found: list[Use | tuple[int, int]] = [
            use for use, leaf in self._leaves.items() if counts[origin(leaf)] > 1
        ]
        return found + [read for read, leaf in self._read.items() if counts[origin(leaf)] > 1]

    def forget(self) -> None:
        """Frees what is kept of the last prediction."""
        self._mu, self._leaves, self._read = None, {}, {}

    def _value(
        self,
        key: Use | tuple[int, int] | str,
        values: Mapping[Use, Tensor],
        known: Mapping[str, Tensor],
    ) -> Tensor:
        """What stands in the slot of a use, of a parameter that an operation reads, or of what is
        known. Uses and parameters have leaves of their own."""
        if isinstance(key, str):
            return known[key]
        if isinstance(key, Use):
            leaf = self._leaves[key] = values[key].detach().requires_grad_()
            return leaf
        leaf = self._learning[key[0]]
        if key[0] not in self._read_once:
            leaf = leaf.detach().requires_grad_()
        self._read[key] = leaf
        return leaf

    def _compiled(self) -> list[_Step]:
        """The operations as steps, and the slots of what they read."""
        for node in self._operations:
            for key in self._keys(node).values():
                self._slots.setdefault(key, _Slot(len(self._slots)))
            for _, key in self._learnt_by(node):
                self._slots.setdefault(key, _Slot(len(self._slots)))
        first = len(self._slots)
        results = {node: _Slot(first + n) for n, node in enumerate(self._operations)}
        return [self._step(node, results) for node in self._operations]

    def _keys(self, node: fx.Node) -> dict[fx.Node, Use | tuple[int, int] | str]:
        """What an operation reads from outside of the vertex, but the parameters of a module."""
        found: dict[fx.Node, Use | tuple[int, int] | str] = {}
        for other in node.all_input_nodes:
            if other.op == "placeholder":
                found[other] = self._owners[other]
            elif other.op == "get_attr":
                k = self._index.get(id(_attribute(self._root, str(other.target))))
                if k is not None:
                    found[other] = (k, self._places[node])
            elif other not in self._operations:
                name = self._owners[other]
                found[other] = (
                    name if reads_shape(node) else Use(name, self.name, self._places[node])
                )
        return found

    def _learnt_by(self, node: fx.Node) -> list[tuple[str, tuple[int, int]]]:
        """The names of the parameters of a module that learn, and their keys."""
        if node.op != "call_module":
            return []
        own = self._parameters_of(node).items()
        learning = ((name, self._index.get(id(p))) for name, p in own)
        return [(name, (k, self._places[node])) for name, k in learning if k is not None]

    def _step(self, node: fx.Node, results: Mapping[fx.Node, _Slot]) -> _Step:
        keys = self._keys(node)

        def slot(other: fx.Node) -> Any:
            if other in keys:
                return self._slots[keys[other]]
            if other.op == "get_attr":  # It does not learn.
                return _attribute(self._root, str(other.target))
            return results[other]

        arguments, keywords = fx.node.map_arg((node.args, node.kwargs), slot)
        call: Any = node.target
        if node.op == "call_method":
            call = _method(str(node.target))
        elif node.op == "call_module":
            call = module = self._root.get_submodule(str(node.target))
            learnt = self._learnt_by(node)
            if any(k not in self._read_once for _, (k, _) in learnt):
                leaves = {name: self._slots[key] for name, key in learnt}
                call = _with_leaves(module)
                arguments, keywords = (leaves, arguments, dict(keywords)), {}  # type: ignore[assignment]
        assert callable(call)
        return _Step(call, tuple(arguments), dict(keywords), _is_flat(arguments, keywords))

    def _parameters_of(self, node: fx.Node) -> Mapping[str, nn.Parameter]:
        """The parameters that an operation reads, by a name that is its own."""
        if node.op == "call_module":
            module = self._root.get_submodule(str(node.target))
            return dict(module.named_parameters(remove_duplicate=False))
        read = [n for n in node.all_input_nodes if n.op == "get_attr"]
        found = {str(n.target): _attribute(self._root, str(n.target)) for n in read}
        return {name: p for name, p in found.items() if isinstance(p, nn.Parameter)}


def reads_shape(node: fx.Node) -> bool:
    """True if an operation reads nothing of a tensor but its shape or its kind."""
    if node.op == "call_method":
        return str(node.target) in ("size", "dim", "numel")
    return node.target is getattr and node.args[1] in ("shape", "ndim", "dtype", "device")


def _is_flat(arguments: Sequence[Any], keywords: Mapping[str, Any]) -> bool:
    """True if no argument holds a slot inside of it."""
    found: list[_Slot] = []

    def look(argument: Any) -> Any:
        if type(argument) is _Slot:
            found.append(argument)
        return argument

    fx.node.map_aggregate((tuple(arguments), dict(keywords)), look)
    return len(found) == sum(type(a) is _Slot for a in arguments)


def _with_leaves(module: nn.Module) -> Callable[..., Any]:
    """A function that calls the module with leaves in the place of its parameters."""

    def called(leaves: Mapping[str, Tensor], arguments: Any, keywords: Mapping[str, Any]) -> Any:
        # functional_call adds to the dictionary, and those of torch.fx cannot be changed.
        return functional_call(module, dict(leaves), arguments, dict(keywords), tie_weights=False)

    return called


def _method(name: str) -> Callable[..., Any]:
    """A function that calls the method of that name of its first argument."""

    def called(owner: Any, *arguments: Any, **keywords: Any) -> Any:
        return getattr(owner, name)(*arguments, **keywords)

    return called


def _attribute(root: nn.Module, target: str) -> Any:
    owner, _, name = target.rpartition(".")
    return getattr(root.get_submodule(owner), name)


def edges(made: Tensor) -> Counter[object]:
    """How many edges of the graph of autograd that made a tensor lead to each `origin`."""
    found: Counter[object] = Counter()
    seen, waiting = set(), [made.grad_fn]
    while waiting:
        function = waiting.pop()
        if function is None or function in seen:
            continue
        seen.add(function)
        for following, number in function.next_functions:
            leaf = getattr(following, "variable", None)
            found[(following, number) if leaf is None else id(leaf)] += 1
            waiting.append(following if leaf is None else None)
    return found


def origin(tensor: Tensor) -> object:
    """What autograd knows a tensor by: a leaf by itself, another one by the function and the number
    of the result that it is."""
    return id(tensor) if tensor.grad_fn is None else (tensor.grad_fn, tensor.output_nr)
