"""Divides a traced network into vertices.

A vertex ends at each operation after which the user cuts, and wherever an activity is needed,
because the operations of several vertices read it.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import fx, nn

from pcworker.errors import InputError
from pcworker.networks.graph.probe import Write
from pcworker.networks.graph.structure import Graph, Use
from pcworker.networks.graph.trace import Trace, trace
from pcworker.networks.graph.vertex import Vertex, reads_shape

_TUPLES = (nn.MultiheadAttention, nn.RNNBase)
"""Modules that return a tuple, of which a network needs only one part."""


@dataclass(frozen=True)
class Divided:
    """A network that is divided into vertices."""

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


def divided(network: nn.Module, cuts: Sequence[str] | None) -> Divided:
    """Traces a network and divides it.

    cuts  the names of the operations after which a vertex ends, as torch.fx names them. None: after
          every operation that has parameters, but the last. If it gives a tuple, of which one part
          is used, the vertex ends after that.

    The vertices share the network's parameters. Operations that work in place are run out of place.
    Raises InputError if the network cannot be traced or divided: see the messages.
    """
    made = trace(network)
    parameters = tuple(p for p in network.parameters() if p.requires_grad)
    if not parameters:
        raise InputError(
            "the network has no parameters, and nothing to learn: give at least one module that has"
        )
    given = _given(made)
    ends = _ends(made, [node for node in made.operations if node not in given], cuts)
    return _into_vertices(made, ends, parameters)


def _given(made: Trace) -> set[fx.Node]:
    """The operations that no error reaches: they read shapes, inputs and constants alone. They are
    no part of a vertex of their own; each vertex makes them anew."""
    found: set[fx.Node] = set()
    for node in made.operations:
        reads = [n for n in node.all_input_nodes if n.op != "placeholder" and n not in found]
        learns = node.op == "call_module" and any(
            p.requires_grad for p in made.root.get_submodule(str(node.target)).parameters()
        )
        constant = all(n.op == "get_attr" and not _is_parameter(made.root, n) for n in reads)
        if reads_shape(node) or (constant and not learns):
            found.add(node)
    return found


def _is_parameter(root: nn.Module, node: fx.Node) -> bool:
    owner, _, name = str(node.target).rpartition(".")
    return isinstance(getattr(root.get_submodule(owner), name), nn.Parameter)


def _ends(
    made: Trace, nodes: Sequence[fx.Node], cuts: Sequence[str] | None
) -> dict[fx.Node, fx.Node]:
    """The last operation of the vertex to which each operation belongs."""
    named = {node.name: node for node in nodes}
    for cut in cuts or ():
        if cut not in named:
            near = difflib.get_close_matches(cut, named, n=5, cutoff=0) or list(named)[:5]
            raise InputError(
                f"cut {cut!r}: the network has no such operation; near ones: {', '.join(near)}"
            )
    last = {named[cut] for cut in cuts} if cuts is not None else set(_default(made.root, nodes))
    last.add(made.result)
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


def _into_vertices(
    made: Trace, ends: Mapping[fx.Node, fx.Node], parameters: Sequence[nn.Parameter]
) -> Divided:
    places = {node: place for place, node in enumerate(made.operations)}
    inputs = [node for node in made.root.graph.nodes if node.op == "placeholder"]
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
        end.name: Vertex(end.name, own[end], places, owners, made.root, parameters) for end in last
    }
    graph = Graph(tuple(end.name for end in last), tuple(sorted(uses)))
    names = tuple(node.name for node in inputs)
    return Divided(graph, vertices, names, tuple(parameters), made.root, made.writes)


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
