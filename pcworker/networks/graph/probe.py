"""Runs a traced network on the first minibatch, and refuses what a trace does not show: operations
that draw anew at each prediction, and writes into memory that is read under another name.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from pcworker.errors import InputError


@dataclass(frozen=True)
class Write:
    """An operation that wrote into what it read, in the module. Here it runs out of place."""

    by: fx.Node
    into: fx.Node
    places: Mapping[fx.Node, int]
    """The place of each operation in the order of execution."""

    def is_after(self, node: fx.Node) -> bool:
        """True if a node is computed before the writing. What is computed later may share memory
        with the result: Dropout in evaluation, for example, returns the very tensor it reads."""
        return self.places.get(node, -1) < self.places[self.by]

    def require_alone(self, nodes: Iterable[fx.Node]) -> None:
        """Raises InputError if the network itself holds the memory of these nodes, or if one of
        them is read after the writing."""
        for node in nodes:
            if node.op == "get_attr":
                raise InputError(
                    f"{self.by.name} writes into {node.target}, which belongs to the network, and "
                    "would change it at each prediction; write it without working in place"
                )
            for reader in node.users:
                if self.places.get(reader, -1) > self.places[self.by]:
                    raise InputError(
                        f"{self.by.name} writes into {self.into.name}, which {reader.name} reads "
                        "later; write it without working in place"
                    )


def probe(
    root: fx.GraphModule, writes: Sequence[Write], inputs: Sequence[Tensor]
) -> Mapping[fx.Node, Any]:
    """Returns the values of all operations. Raises InputError if the network does not repeat itself
    bit for bit, or if an operation wrote into memory that is read later, through a view for
    example.

    root    the network, in which nothing works in place
    writes  the operations that did
    """
    first, again = _values(root, inputs), _values(root, inputs)
    for node, value in first.items():
        pairs = zip(_tensors(value), _tensors(again[node]), strict=True)
        if not all(torch.equal(_bits(a), _bits(b)) for a, b in pairs):
            raise InputError(
                f"{node.name} draws anew at each prediction, or changes with it, and x - mu would "
                "not be 0 where nothing has changed; call network.eval() first, or leave it out"
            )
    memory = {node: {_memory(t) for t in _tensors(value)} - {0} for node, value in first.items()}
    for write in writes:
        same = (n for n, places in memory.items() if places & memory[write.into])
        write.require_alone(n for n in same if write.is_after(n))
    return first


def _values(root: fx.GraphModule, inputs: Sequence[Tensor]) -> dict[fx.Node, Any]:
    """The values of all operations."""
    run = fx.Interpreter(root, garbage_collect_values=False)
    with torch.enable_grad():  # Some modules take another way without gradients.
        run.run(*inputs)
    return run.env


def _tensors(value: Any) -> list[Tensor]:
    """The tensors of a value, which may be a tuple of tensors."""
    if isinstance(value, (tuple, list)):
        return [tensor for each in value for tensor in _tensors(each)]
    return [value.detach()] if isinstance(value, Tensor) else []


def _bits(tensor: Tensor) -> Tensor:
    """The values, with a number in the place of NaN, which equals nothing."""
    return torch.nan_to_num(tensor, nan=0.5) if tensor.is_floating_point() else tensor


def _memory(tensor: Tensor) -> int:
    """The address of the memory that holds a tensor. It is 0 if there is none."""
    return tensor.untyped_storage().data_ptr()
