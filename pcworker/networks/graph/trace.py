"""Makes vertices of a torch.nn.Module: torch.fx traces its operations, and cuts divide them.

A vertex ends at each operation after which the user cuts, and wherever an activity is needed,
because the operations of several vertices read it.
"""

import copy
import difflib
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.proxy import TraceError

from pcworker.errors import InputError
from pcworker.networks.graph.probe import Write
from pcworker.networks.graph.structure import Graph, Use
from pcworker.networks.graph.vertex import Vertex, reads_shape
from pcworker.networks.sequential import require_repeatable

READS = ("placeholder", "get_attr")
_TUPLES = (nn.MultiheadAttention, nn.RNNBase)
"""Modules that return a tuple, of which a network needs only one part."""
_DRAWS = {"bernoulli", "multinomial", "normal", "poisson"}
_OUT_OF_PLACE = {
    getattr(operator, f"i{name}"): getattr(operator, name)
    for name in ("add", "sub", "mul", "truediv", "matmul", "pow")
}


@dataclass(frozen=True)
class Traced:
    """A traced network, divided into vertices."""

    graph: Graph
    vertices: Mapping[str, Vertex]
    inputs: tuple[str, ...]
    """The names of the network's inputs, in the order of its arguments."""
    parameters: tuple[nn.Parameter, ...]
    """The parameters that learn."""
    root: fx.GraphModule
    """The whole network. Nothing in it works in place."""
    writes: tuple[Write, ...]
    """The operations that worked in place in the module."""


def traced(network: nn.Module, cuts: Sequence[str] | None) -> Traced:
    """Traces a network and divides it.

    cuts  the names of the operations after which a vertex ends, as torch.fx names them. None: after
          every operation that has parameters, but the last. If it gives a tuple, of which one part
          is used, the vertex ends after that.

    The vertices share the network's parameters. Operations that work in place are run out of place.
    Raises InputError if the network cannot be traced or divided: see the messages.
    """
    _require_no_hooks(network)
    root = _symbolic(network)
    for node in reversed(root.graph.nodes):
        if node.target is operator.getitem and not node.users:
            root.graph.erase_node(node)  # It is a part of a tuple that nobody needs.
    nodes = [node for node in root.graph.nodes if node.op not in (*READS, "output")]
    result = _result(root.graph)
    writes = _run_out_of_place(root, nodes)
    _require_used(nodes)
    for node in nodes:
        _require_repeatable(root, node)
    parameters = tuple(p for p in network.parameters() if p.requires_grad)
    if not parameters:
        raise InputError(
            "the network has no parameters, and nothing to learn: give at least one module that has"
        )
    given = _given(root, nodes)
    ends = _ends(root, [node for node in nodes if node not in given], result, cuts)
    return _divided(root, nodes, ends, parameters, writes)


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
    except (TraceError, TypeError, RuntimeError, NameError, AttributeError, ValueError) as error:
        raise InputError(
            f"{type(network).__name__} cannot be traced by torch.fx ({error}); its forward must be "
            "made of operations on tensors, without branches that depend on their values"
        ) from error
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


def _result(graph: fx.Graph) -> fx.Node:
    (output,) = (node for node in graph.nodes if node.op == "output")
    value = output.args[0]
    if not isinstance(value, fx.Node) or value.op in READS:
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
        if found is None:
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


def _given(root: fx.GraphModule, nodes: Sequence[fx.Node]) -> set[fx.Node]:
    """The operations that no error reaches: they read shapes, inputs and constants alone. They are
    no part of a vertex of their own; each vertex makes them anew."""
    found: set[fx.Node] = set()
    for node in nodes:
        reads = [n for n in node.all_input_nodes if n.op != "placeholder" and n not in found]
        learns = node.op == "call_module" and any(
            p.requires_grad for p in root.get_submodule(str(node.target)).parameters()
        )
        constant = all(n.op == "get_attr" and not _is_parameter(root, n) for n in reads)
        if reads_shape(node) or (constant and not learns):
            found.add(node)
    return found


def _is_parameter(root: nn.Module, node: fx.Node) -> bool:
    owner, _, name = str(node.target).rpartition(".")
    return isinstance(getattr(root.get_submodule(owner), name), nn.Parameter)


def _ends(
    root: nn.Module, nodes: Sequence[fx.Node], result: fx.Node, cuts: Sequence[str] | None
) -> dict[fx.Node, fx.Node]:
    """The last operation of the vertex to which each operation belongs."""
    named = {node.name: node for node in nodes}
    for cut in cuts or ():
        if cut not in named:
            near = difflib.get_close_matches(cut, named, n=5, cutoff=0) or list(named)[:5]
            raise InputError(
                f"cut {cut!r}: the network has no such operation; near ones: {', '.join(near)}"
            )
    last = {named[cut] for cut in cuts} if cuts is not None else set(_default(root, nodes))
    last.add(result)
    ends: dict[fx.Node, fx.Node] = {}
    for node in reversed(nodes):
        of = {ends[user] for user in node.users if user in ends}
        ends[node] = node if node in last or len(of) != 1 else of.pop()
    return ends


def _default(root: nn.Module, nodes: Sequence[fx.Node]) -> list[fx.Node]:
    found = []
    for node in nodes:
        module = root.get_submodule(str(node.target)) if node.op == "call_module" else None
        if module is not None and next(module.parameters(), None) is not None:
            is_tuple = isinstance(module, _TUPLES) and len(node.users) == 1
            found.append(next(iter(node.users)) if is_tuple else node)
    return found


def _divided(
    root: fx.GraphModule,
    nodes: Sequence[fx.Node],
    ends: Mapping[fx.Node, fx.Node],
    parameters: Sequence[nn.Parameter],
    writes: tuple[Write, ...],
) -> Traced:
    places = {node: place for place, node in enumerate(nodes)}
    inputs = [node for node in root.graph.nodes if node.op == "placeholder"]
    last = sorted(set(ends.values()), key=lambda node: places[node])
    owners = {node: node.name for node in (*inputs, *last)}
    own = {end: _operations_of(end, ends, places) for end in last}
    uses = {
        Use(other.name, end.name, places[node])
        for end in last
        for node in own[end]
        for other in node.all_input_nodes
        if other in own and other not in own[end] and not reads_shape(node)
    }
    vertices = {
        end.name: Vertex(end.name, own[end], places, owners, root, parameters) for end in last
    }
    graph = Graph(tuple(end.name for end in last), tuple(sorted(uses)))
    names = tuple(node.name for node in inputs)
    return Traced(graph, vertices, names, tuple(parameters), root, writes)


def _operations_of(
    end: fx.Node, ends: Mapping[fx.Node, fx.Node], places: Mapping[fx.Node, int]
) -> list[fx.Node]:
    """The operations of a vertex, and those that are given and that it needs, in their order."""
    found = {node for node, of in ends.items() if of is end}
    waiting = list(found)
    while waiting:
        for node in waiting.pop().all_input_nodes:
            if node in places and node not in ends and node not in found:
                found.add(node)
                waiting.append(node)
    return sorted(found, key=lambda node: places[node])


def operations(network: nn.Module) -> list[tuple[str, Any]]:
    """The names of a network's operations, for `cuts`, and what each one does."""
    return [(node.name, node.target) for node in _symbolic(network).graph.nodes]
