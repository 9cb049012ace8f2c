"""The structure of a graph of vertices: who reads whom, and how far each is from the output.

A vertex predicts its activity from its parents' activities. Its level is its distance to the output
vertex, which has level 0. In a *levelled* graph all paths from a vertex to the output have the same
length, and there Z-IL is backpropagation (Salvatori et al., AAAI 2022, Theorem 4). Identity
vertices level any graph: they delay what a shorter path brings. Nothing here knows torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True, order=True)
class Use:
    """An operation of the vertex `child` that reads the activity of the vertex `parent`."""

    parent: str
    child: str
    place: int
    """The operation's place in the order of execution. An activity's gradients are added from the
    last operation to the first, as autograd does."""


@dataclass(frozen=True)
class Graph:
    """Vertices in the order of execution, the output vertex at last, and who reads whom."""

    vertices: tuple[str, ...]
    uses: tuple[Use, ...]

    @property
    def output(self) -> str:
        return self.vertices[-1]

    @cached_property
    def used(self) -> Mapping[str, tuple[Use, ...]]:
        """The uses of each vertex's activity, from the last operation to the first."""
        found = sorted(self.uses, key=lambda use: use.place, reverse=True)
        return {name: tuple(u for u in found if u.parent == name) for name in self.vertices}

    @cached_property
    def levels(self) -> Mapping[str, int]:
        """The levels of the levelled graph: the length of the longest path to the output."""
        return self._distances(longest=True)

    @cached_property
    def shortest(self) -> Mapping[str, int]:
        """The length of the shortest path to the output. Where it is less than the level, the graph
        is not levelled."""
        return self._distances(longest=False)

    @property
    def is_levelled(self) -> bool:
        """True if no identity vertex is needed."""
        return all(self.delay(use) == 0 for use in self.uses)

    def delay(self, use: Use) -> int:
        """The number of identity vertices between the two vertices in the levelled graph."""
        return self.levels[use.parent] - self.levels[use.child] - 1

    def _distances(self, longest: bool) -> dict[str, int]:
        pick = max if longest else min
        found = {self.output: 0}
        for name in reversed(self.vertices[:-1]):
            found[name] = 1 + pick(found[use.child] for use in self.used[name])
        return found
