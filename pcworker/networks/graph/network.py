"""Trains a graph of vertices by Eq. 5-9, with identity vertices or without them.

There are two ways, with the same bits. *Literal* is the text: every vertex at every step, and an
identity vertex for each step by which a path to the output is shorter than the longest one.
*Layerwise* is a sweep from the output to the inputs, in which each vertex is computed once: see
`pcworker.networks.graph.layerwise`.
"""

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from pcworker.equations.rules import RULES
from pcworker.errors import InputError
from pcworker.networks.graph.divide import Divided, divided
from pcworker.networks.graph.layerwise import Layerwise
from pcworker.networks.graph.order import require_no_disorder, require_no_repetition
from pcworker.networks.graph.probe import probe
from pcworker.networks.graph.state import DelayLine, GraphState
from pcworker.networks.graph.structure import Use
from pcworker.networks.graph.vertex import Change
from pcworker.networks.method import Method
from pcworker.networks.mode import require_plain_mode


def predictive_graph(
    network: nn.Module, cuts: Sequence[str] | None = None, *, levelled: bool = True
) -> "GraphNetwork":
    """Makes a predictive coding network of a module, whose parameters it shares.

    cuts      the names of the operations after which a vertex ends: see `divided`
    levelled  False: without identity vertices, and each vertex learns at its shortest distance. If
              paths differ in length, this is not backpropagation

    Raises InputError if the network cannot be traced or divided.
    """
    return GraphNetwork(divided(network, cuts), levelled)


class GraphNetwork:
    """A network of vertices that learns by Eq. 5-9. It is one trial."""

    def __init__(self, network: Divided, levelled: bool = True) -> None:
        """`levelled` is False for a graph that is to be run without identity vertices."""
        self.graph = network.graph
        self.levels = self.graph.levels if levelled else self.graph.shortest
        """The step at which the weights of each vertex move, by Z-IL."""
        self._network, self._levelled = network, levelled
        self._layerwise = Layerwise(network)
        self._frozen = [p for p in network.root.parameters() if not p.requires_grad]
        self._reads = {name: v.reads for name, v in network.vertices.items() if v.reads}
        self._places: dict[int, list[int]] = {}
        """The places of the operations that read each parameter."""
        self._readers: dict[int, list[str]] = {}
        """The vertices that read each parameter, in the order of execution."""
        for name, reads in self._reads.items():
            for k, place in reads:
                self._places.setdefault(k, []).append(place)
                self._readers.setdefault(k, []).append(name)
        self._checked: set[tuple[object, ...]] = set()  # the kinds of inputs that were checked

    @property
    def l_max(self) -> int:
        """The number of levels."""
        return max(self.levels.values()) + 1

    @torch.no_grad()
    def update(
        self,
        inputs: Tensor | Sequence[Tensor],
        targets: Tensor,
        rate: float,
        method: Method,
        noise: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Makes one weight update on one minibatch.

        inputs   the network's arguments
        targets  s_out, in the shape of the network's output. E = 1/2 sum (s_out - mu)^2 is summed
                 over the batch and over the outputs (Eq. 2, 6)
        rate     alpha, for that sum; for a mean over the batch, divide it by B
        noise    for sigma > 0: standard normals in the shape of each hidden vertex's activity

        Returns the output errors s_out - mu at t = 0. Raises InputError if the targets have another
        shape than the output, if noise is missing, if an operation inside a vertex reads an
        activity or a parameter so that its gradient cannot be added in autograd's order, or if
        `probe` refuses the network. The last two are found at the first update with inputs of a
        shape and kind.
        """
        require_plain_mode()
        self._require_same_learners()
        named = self._named(inputs)
        self._check(named)
        if self._may_sweep(method):
            return self._layerwise.update(list(named.values()), targets, rate, method.gamma)
        if method.sigma:
            self._require_noise(noise or {})
        shifts = {name: method.sigma * normal for name, normal in (noise or {}).items()}
        state = GraphState(self._network, named, method)
        errors = state.start(targets, shifts if method.sigma else {})
        self._literal(state, method, rate)
        return errors

    @torch.no_grad()
    def activities(self, inputs: Tensor | Sequence[Tensor]) -> dict[str, Tensor]:
        """What each vertex predicts for the inputs, in the order of execution (Eq. 5)."""
        found = self._predictions(self._named(inputs))
        self._forget()
        return found

    def _predictions(self, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name, vertex in self._network.vertices.items():
            read = {use: found[use.parent] for use in self.graph.uses if use.child == name}
            found[name] = vertex.predict(read, {**found, **named})
        return found

    def level_of(self, parameter: nn.Parameter) -> int:
        """The largest level of a vertex that reads the parameter, at which its last change comes.
        It is -1 if there is none."""
        same = (k for k, p in enumerate(self._network.parameters) if p is parameter)
        return next((self._last_level(k) for k in same if k in self._places), -1)

    def _named(self, inputs: Tensor | Sequence[Tensor]) -> dict[str, Tensor]:
        given = [inputs] if isinstance(inputs, Tensor) else list(inputs)
        if len(given) != len(self._network.inputs):
            raise InputError(
                f"{len(given)} inputs for a network of {len(self._network.inputs)}: "
                f"{', '.join(self._network.inputs)}"
            )
        named = dict(zip(self._network.inputs, given, strict=True))
        for name, x in named.items():
            if not isinstance(x, Tensor):
                raise InputError(f"input {name} is a {type(x).__name__}: every input is a tensor")
        return named

    def _require_same_learners(self) -> None:
        """Raises InputError if a parameter was frozen or thawed since the network was traced."""
        thawed = any(p.requires_grad for p in self._frozen)
        if thawed or not all(p.requires_grad for p in self._network.parameters):
            raise InputError(
                "requires_grad of a parameter has changed since the graph was made; make it anew"
            )

    @torch.no_grad()
    def require_exact(self, inputs: Tensor | Sequence[Tensor]) -> None:
        """Looks for what `update` refuses, so that an update with such inputs need not look."""
        self._check(self._named(inputs))

    def _check(self, named: Mapping[str, Tensor]) -> None:
        # What is a view, or the same tensor, depends on this: contiguous() of one row, for example.
        kind = tuple((x.shape, x.stride(), x.dtype) for x in named.values())
        if kind in self._checked:
            return
        self._predictions(named)
        require_no_repetition(self._network, self._places)
        self._forget()
        values = probe(self._network.root, self._network.writes, list(named.values()))
        require_no_disorder(self._network, self._places, values)
        self._checked.add(kind)

    def _forget(self) -> None:
        for vertex in self._network.vertices.values():
            vertex.forget()

    def _may_sweep(self, method: Method) -> bool:
        """True if the bits of the literal schedule come out of a sweep, too: every vertex learns at
        its level, until then its error is exactly 0, and a delay rounds nothing."""
        exact = method.arithmetic == "displacement" and not method.sigma and self._levelled
        return exact and method.schedule == "layerwise" and RULES[method.rule].layer_by_layer

    def _literal(self, state: GraphState, method: Method, rate: float) -> None:
        """Every vertex at every step."""
        rule, last = RULES[method.rule], method.last_step(self.l_max)
        state.lines = {
            use: DelayLine(self.graph.delay(use) if self._levelled else 0, method, state, use)
            for use in self.graph.uses
        }
        held: list[Change] = []
        for t in range(last + 1):
            if t > 0:
                for name in self.graph.vertices:
                    state.predict(name)
            state.compare_all()
            firing = {
                name
                for name, level in self.levels.items()
                if rule.fires(level, t, last, every_step=method.schedule == "literal")
            }
            held += self._move_activities(state, firing, rule.gated)
            held = self._learn_what_is_known(held, t, last, rule.gated, rate)

    def _move_activities(
        self, state: GraphState, firing: Collection[str], gated: bool
    ) -> list[Change]:
        """Moves all activities at once. Returns the changes of the weights of `firing`."""
        pulled: dict[Use, Tensor] = {}
        changes: list[Change] = []
        for name, vertex in self._network.vertices.items():
            taught = state.taught(name, gated)
            found = vertex.pull(state.error(name), taught if name in firing else None)
            pulled |= found.activities
            changes += found.changes
        arrived = {use: line.move(pulled.get(use)) for use, line in state.lines.items()}
        for name in self.graph.vertices[:-1]:
            mine = (arrived[use] for use in self.graph.used[name])
            state.move(name, [each for each in mine if each is not None])
        return changes

    def _learn_what_is_known(
        self, held: list[Change], t: int, last: int, gated: bool, rate: float
    ) -> list[Change]:
        """Moves the parameters whose changes from all operations are known. Returns the others."""
        known = {
            k
            for k, of in self._places.items()
            if t == last or (len(of) == 1 if gated else t >= self._last_level(k))
        }
        self._learn([change for change in held if change.parameter in known], rate)
        return [change for change in held if change.parameter not in known]

    def _last_level(self, parameter: int) -> int:
        """The largest level of a vertex that reads the parameter."""
        return max(self.levels[name] for name in self._readers[parameter])

    def _learn(self, changes: Sequence[Change], rate: float) -> None:
        """theta += rate * the sum of its changes, from the last operation to the first   (Eq. 9)"""
        total: dict[int, Tensor] = {}
        for change in sorted(changes, key=lambda change: change.place, reverse=True):
            before = total.get(change.parameter)
            total[change.parameter] = change.value if before is None else before + change.value
        for k, value in total.items():
            self._network.parameters[k].add_(value, alpha=rate)

    def _require_noise(self, noise: Mapping[str, Tensor]) -> None:
        hidden = self.graph.vertices[:-1]
        if set(noise) != set(hidden):
            raise InputError(
                f"noise for {', '.join(sorted(noise)) or 'no vertex'}: with sigma > 0 give "
                f"standard normals for each hidden vertex: {', '.join(hidden)}"
            )
