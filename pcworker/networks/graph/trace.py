"""Traces the operations of a torch.nn.Module by torch.fx, none of which works in place afterwards,
and refuses what would not be the same twice."""

import copy
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.proxy import TraceError

from pcworker.errors import InputError
from pcworker.networks.graph.probe import Write
from pcworker.networks.sequential import require_repeatable

_READS = ("placeholder", "get_attr")
_DRAWS = {"bernoulli", "multinomial", "normal", "poisson"}
_TROUBLES = (
    *(TraceError, TypeError, RuntimeError, NameError, AttributeError, ValueError),
    AssertionError,  # A module of TorchScript has no Python to trace.
)
_OUT_OF_PLACE = {
    getattr(operator, f"i{name}"): getattr(operator, name)
    for name in ("add", "sub", "mul", "truediv", "matmul", "pow")
}


@dataclass(frozen=True)
class Trace:
    """The operations of a network, none of which works in place."""

    root: fx.GraphModule
    operations: tuple[fx.Node, ...]
    """In the order of execution."""
    result: fx.Node
    """The operation that gives the network's output."""
    writes: tuple[Write, ...]
    """The operations that worked in place in the module."""


def trace(network: nn.Module) -> Trace:
    """Traces a network, whose parameters the trace shares.

    Raises InputError if it cannot be traced, or would not repeat itself: see the messages.
    """
    _require_no_hooks(network)
    root = _symbolic(network)
    _require_names(root.graph)
    for node in reversed(root.graph.nodes):
        if node.target is operator.getitem and not node.users:
            root.graph.erase_node(node)  # It is a part of a tuple that nobody needs.
    nodes = operations_of(root.graph)
    result = _result(root.graph)
    writes = _run_out_of_place(root, nodes)
    _require_used(nodes)
    for node in nodes:
        _require_repeatable(root, node)
    return Trace(root, tuple(nodes), result, writes)


def operations_of(graph: fx.Graph) -> list[fx.Node]:
    """The operations of a graph of torch.fx, in the order of execution."""
    return [node for node in graph.nodes if node.op not in (*_READS, "output")]


def _require_no_hooks(network: nn.Module) -> None:
    """Raises InputError if a hook would run in autograd, and not here: one that changes a gradient,
    or one of the whole network."""
    whole = (network._forward_hooks, network._forward_pre_hooks)
    modules = [(m._backward_hooks, m._backward_pre_hooks) for m in network.modules()]
    parameters = [(p._backward_hooks, p._post_accumulate_grad_hooks) for p in network.parameters()]
    if any(any(hooks) for hooks in (whole, *modules, *parameters)):
        raise InputError(
            f"{type(network).__name__} has hooks, and no trace shows them; remove hooks of "
            "gradients, and those of the whole network"
        )


class _Attribute(fx.proxy.Attribute):
    """The same as `_Proxy`, for attributes such as `a.T`."""


class _Proxy(fx.Proxy):
    """Records `a += b` as what it is. torch.fx itself would record `a = a + b`, whose result is
    another one where `a` has views."""

    def __getattr__(self, name: str) -> _Attribute:
        return _Attribute(self, name)


def _recorded(in_place: Any) -> Any:
    def record(self: fx.Proxy, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", in_place, (self, other), {})

    return record


for _function in _OUT_OF_PLACE:
    for _kind in (_Proxy, _Attribute):
        setattr(_kind, f"__{_function.__name__}__", _recorded(_function))


class _Tracer(fx.Tracer):
    def __init__(self) -> None:
        super().__init__()
        self._mode = _mode()

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """The stand-in for the value of a node while the module's forward runs."""
        return _Proxy(node, self)

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        """Records an operation. Raises InputError if the trace would not show how it is run."""
        if _mode() != self._mode:
            raise InputError(
                "a part of forward runs without gradients, in another precision (torch.autocast), "
                "or in an autograd.Function of its own, and no trace shows that; write it without, "
                "for example with detach()"
            )
        return super().create_node(*args, **kwargs)


def _mode() -> tuple[bool, ...]:
    """How torch runs operations at this moment."""
    return torch.is_grad_enabled(), *map(torch.is_autocast_enabled, ("cpu", "cuda"))


def _symbolic(network: nn.Module) -> fx.GraphModule:
    """A trace of the network. Modules are copied, and share their parameters with the network."""
    shared = {id(t): t for t in (*network.parameters(), *network.buffers())}
    versions = [t._version for t in shared.values()]
    try:
        with torch.enable_grad():
            copied = copy.deepcopy(network, shared)
            made = fx.GraphModule(copied, _Tracer().trace(copied))
            again = fx.GraphModule(copied, _Tracer().trace(copied))
    except _TROUBLES as error:
        raise InputError(
            f"{type(network).__name__} cannot be traced by torch.fx ({error}); its forward must be "
            "made of operations on tensors, without branches that depend on their values"
        ) from error
    if any(id(p) not in shared for p in copied.parameters()):
        raise InputError(
            f"{type(network).__name__} has a part whose copy does not share its parameters, as in "
            "TorchScript; use the module from which it was made"
        )
    if versions != [t._version for t in (*network.parameters(), *network.buffers())]:
        raise InputError(
            f"{type(network).__name__} writes into a buffer of its own at each prediction, and x - "
            "mu would not be 0 where nothing has changed; leave it out"
        )
    if not _is_same(made, again):
        raise InputError(
            f"{type(network).__name__} draws anew at each prediction, and x - mu would not be 0 "
            "where nothing has changed; leave it out"
        )
    return made


def _is_same(made: fx.GraphModule, again: fx.GraphModule) -> bool:
    """True if two traces have the same constants. A number or a tensor that forward makes without
    reading a tensor is a constant of the trace."""
    pairs = zip(_constants(made), _constants(again), strict=True)
    return _numbers(made) == _numbers(again) and all(torch.equal(*pair) for pair in pairs)


def _numbers(traced_module: fx.GraphModule) -> str:
    places = {node: place for place, node in enumerate(traced_module.graph.nodes)}
    return repr(
        [fx.node.map_arg((node.args, node.kwargs), lambda other: places[other]) for node in places]
    )


def _constants(traced_module: fx.GraphModule) -> list[Tensor]:
    names = [node.target for node in traced_module.graph.nodes if node.op == "get_attr"]
    own = [getattr(traced_module, str(name)) for name in names if "_tensor_constant" in str(name)]
    return [value for value in own if isinstance(value, Tensor)]


def _require_names(graph: fx.Graph) -> None:
    """Raises InputError if forward takes `*args` or `**kwargs`, in which an input has no name."""
    for node in graph.nodes:
        if node.op == "placeholder" and str(node.target).startswith("*"):
            raise InputError(
                f"forward takes {node.target}, and a trace needs each argument by a name of its "
                "own; write the arguments out"
            )


def _result(graph: fx.Graph) -> fx.Node:
    (output,) = (node for node in graph.nodes if node.op == "output")
    value = output.args[0]
    if not isinstance(value, fx.Node) or value.op in _READS:
        what = "no computed tensor" if isinstance(value, fx.Node) else f"a {type(value).__name__}"
        raise InputError(
            f"the network returns {what}; it must return one tensor that it has computed, because "
            "there is one target"
        )
    return value


def _run_out_of_place(root: fx.GraphModule, nodes: Sequence[fx.Node]) -> tuple[Write, ...]:
    """Replaces operations that write into what they read by ones that do not, and returns these.
    Both have the same bits, unless the old value is read later: that is an InputError, and so is a
    later reading of a view of it, as `probe` finds."""
    places = {node: place for place, node in enumerate(nodes)}
    writes = tuple(
        Write(node, node.all_input_nodes[0], places)
        for node in nodes
        if _works_in_place(root, node)
    )
    for write in writes:
        write.require_alone([write.into])
    for write in writes:
        _change(write.by)
    for module in root.modules():
        if getattr(module, "inplace", False):
            module.inplace = False  # type: ignore[assignment]
    return writes


def _works_in_place(root: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_module":
        parts = root.get_submodule(str(node.target)).modules()
        return any(getattr(part, "inplace", False) for part in parts)
    name = _name(node)
    named_so = name.endswith("_") and not name.endswith("__")
    return node.target in _OUT_OF_PLACE or named_so or bool(node.kwargs.get("inplace"))


def _change(node: fx.Node) -> None:
    """Makes an operation that is no module work out of place."""
    owner = Tensor if node.op == "call_method" else torch
    if node.kwargs.get("inplace"):
        node.kwargs = {**node.kwargs, "inplace": False}
    elif node.target in _OUT_OF_PLACE:
        node.target = _OUT_OF_PLACE[node.target]
    elif node.op != "call_module":
        found = getattr(owner, _name(node)[:-1], None)
        if not callable(found):
            raise InputError(f"{node.name} has no form that works out of place; write it otherwise")
        node.target = _name(node)[:-1] if node.op == "call_method" else found


def _name(node: fx.Node) -> str:
    """The name of a method or of a function."""
    target = node.target
    return target if isinstance(target, str) else str(getattr(target, "__name__", ""))


def _require_used(nodes: Sequence[fx.Node]) -> None:
    unused = [node.name for node in nodes if not node.users]
    if unused:
        raise InputError(
            f"{unused[0]} is computed and not used: its error would always be 0; leave it out"
        )


def _require_repeatable(root: fx.GraphModule, node: fx.Node) -> None:
    """Raises InputError if an operation would not give the same prediction twice."""
    if node.op == "call_module":
        require_repeatable(str(node.target), root.get_submodule(str(node.target)))
        return
    draws = "rand" in _name(node) or _name(node) in _DRAWS
    trains = bool(node.kwargs.get("training")) or bool(node.kwargs.get("dropout_p"))
    if draws or trains:
        raise InputError(
            f"{node.name} draws anew at each prediction, or changes with it, and x - mu would not "
            "be 0 where nothing has changed; call network.eval() first, or leave it out"
        )


def operations(network: nn.Module) -> list[tuple[str, Any]]:
    """The names of a network's operations, for `cuts`, and what each one does."""
    return [(node.name, node.target) for node in _symbolic(network).graph.nodes]
