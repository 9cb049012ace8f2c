"""Refuses networks whose gradients would be added in another order than autograd's, which is from
the last operation to the first.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, fx

from pcworker.errors import InputError
from pcworker.networks.graph.divide import Divided
from pcworker.networks.graph.structure import Use
from pcworker.networks.graph.trace import operations_of
from pcworker.networks.graph.vertex import edges, origin


def require_no_repetition(network: Divided, places: Mapping[int, Sequence[int]]) -> None:
    """Raises InputError if an operation of the last predictions reads a leaf several times inside,
    unless it is the first whose gradient is added: autograd would add one by one what comes as a
    sum here.

    places  those of the operations that read each parameter
    """
    for name, vertex in network.vertices.items():
        for key in vertex.repeated():
            if isinstance(key, Use):
                bad = network.graph.used[key.parent][0] != key
                what = f"the activity {key.parent}"
            else:
                bad = max(places[key[0]]) != key[1]
                what = "a parameter that other operations read as well"
            if bad:
                raise InputError(
                    f"an operation of {name} reads {what} several times, and autograd would "
                    "add these gradients in another order; write the operation out, so that "
                    "each of its parts is traced"
                )


def require_no_disorder(
    network: Divided, places: Mapping[int, Sequence[int]], values: Mapping[fx.Node, Any]
) -> None:
    """Raises InputError if an operation returns the very tensor that it reads, as nn.Identity does,
    and this changes the order. For autograd there is no such operation: its readers read what it
    reads. Here it pulls back the sum of their gradients at its own place. That is exact if nothing
    is added before it, or if there are only two gradients.

    values  those of all operations of the whole network
    """
    operations = operations_of(network.root.graph)
    at = {node: place for place, node in enumerate(operations)}
    counts = edges(values[operations[-1]])
    readers: dict[object, set[int]] = {
        id(parameter): set(places.get(k, ())) for k, parameter in enumerate(network.parameters)
    }
    for node in operations:
        for read in node.all_input_nodes:
            same = isinstance(values[read], Tensor) and values[read] is values[node]
            if not same or counts[origin(values[read])] <= 2:  # a + b is b + a
                continue
            uses = network.graph.used.get(read.name, ())
            others = {use.place for use in uses} or readers.get(id(values[read]), set())
            if max(others, default=-1) > at[node]:
                raise InputError(
                    f"{node.name} returns {read.name} itself, which other operations read as well, "
                    "and autograd would add their gradients in another order; leave it out"
                )
