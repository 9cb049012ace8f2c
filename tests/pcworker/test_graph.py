"""Networks that are graphs learn by the same equations, and Z-IL is exactly backpropagation there.

The oracles are torch.autograd + torch.optim.SGD on the module itself (bit for bit), the engine of
chains (bit for bit), and closed forms of what gamma does.
"""

import copy
import gc
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import reference
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pcworker.errors import InputError
from pcworker.networks.graph.network import GraphNetwork, predictive_graph
from pcworker.networks.graph.structure import Graph, Use
from pcworker.networks.graph.trace import operations
from pcworker.networks.method import Method
from pcworker.networks.sequential import predictive

RATE, CLASSES = 0.01, 5
SWEEP, LITERAL = Method(rule="Z-IL"), Method(rule="Z-IL", schedule="literal")


class Residual(nn.Module):
    """A skip over two layers, and one over none."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner = nn.Linear(8, 16), nn.Linear(16, 16)
        self.second, self.last = nn.Linear(16, 16), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x))
        h = h + self.second(torch.tanh(self.inner(h)))
        return self.last(torch.relu(h) + h)  # type: ignore[no-any-return]


class Recurrent(nn.Module):
    """A many-to-one network of rows: every step has the same weights."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.again, self.last = (
            nn.Linear(4, 12),
            nn.Linear(12, 12),
            nn.Linear(12, CLASSES),
        )

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.enter(x[:, 0]))
        for k in range(1, 5):
            h = torch.tanh(self.enter(x[:, k]) + self.again(h))
        return self.last(h)  # type: ignore[no-any-return]


class Gated(nn.Module):
    """An LSTM, written out: products of two moving parents, and paths of different lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.again, self.last = (
            nn.Linear(4, 24),
            nn.Linear(6, 24),
            nn.Linear(6, CLASSES),
        )

    def forward(self, x: Tensor) -> Tensor:
        gates = self.enter(x[:, 0])
        c = torch.sigmoid(gates[:, :6]) * torch.tanh(gates[:, 6:12])
        h = torch.sigmoid(gates[:, 18:]) * torch.tanh(c)
        for k in range(1, 4):
            gates = self.enter(x[:, k]) + self.again(h)
            c = torch.sigmoid(gates[:, 12:18]) * c + torch.sigmoid(gates[:, :6]) * torch.tanh(
                gates[:, 6:12]
            )
            h = torch.sigmoid(gates[:, 18:]) * torch.tanh(c)
        return self.last(h)  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """Encoders of a transformer: attention, layer norms, a perceptron, and two skips each."""

    def __init__(self, layers: int = 2, width: int = 12) -> None:
        super().__init__()
        self.embed, self.last = nn.Linear(4, width), nn.Linear(width, CLASSES)
        names = ("q", "k", "v", "project")
        self.layers = nn.ModuleList(
            nn.ModuleDict(
                {name: nn.Linear(width, width) for name in names}
                | {"norm": nn.LayerNorm(width), "other": nn.LayerNorm(width)}
                | {"up": nn.Linear(width, 2 * width), "down": nn.Linear(2 * width, width)}
            )
            for _ in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for layer in self.layers:
            y = layer["norm"](x)
            q, k, v = layer["q"](y), layer["k"](y), layer["v"](y)
            x = x + layer["project"](torch.softmax(q @ k.transpose(1, 2) / 3.0, -1) @ v)
            x = x + layer["down"](nn.functional.gelu(layer["up"](layer["other"](x))))
        return self.last(x.mean(1))  # type: ignore[no-any-return]


class Bridged(nn.Module):
    """Down and up again, with a bridge, like a U-Net."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 8, 3, padding=1)
        self.c, self.d = nn.Conv2d(8, 4, 3, padding=1), nn.Conv2d(8, 2, 3, padding=1)
        self.last = nn.Linear(2 * 8 * 8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        top = torch.relu(self.a(x))
        low = torch.relu(self.b(nn.functional.max_pool2d(top, 2)))
        up = nn.functional.interpolate(self.c(low), scale_factor=2.0)
        return self.last(torch.relu(self.d(torch.cat([top, up], 1))).flatten(1))  # type: ignore[no-any-return]


class Shaped(nn.Module):
    """A network that reads shapes, slices its input once for several vertices, and has a weight
    that is no module's and a constant."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.last = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, CLASSES)
        self.scale = nn.Parameter(torch.linspace(0.5, 1.5, 6))
        self.register_buffer("shift", torch.linspace(-1, 1, 6))

    def forward(self, x: Tensor) -> Tensor:
        head = x[:, :, :4] * 2.0
        p = self.a(head)
        h = torch.tanh(p) * self.scale + self.shift
        size, time, width = p.shape
        h = h + torch.sigmoid(self.b(head)).view(size, time, width)
        h = self.scale * h.reshape(size * time, width).view(size, time, -1)
        return self.last(h.sum(1) / time)  # type: ignore[no-any-return]


def resnet() -> nn.Module:
    """torchvision's ResNet-18, whose ReLUs and sums work in place."""
    return torchvision.models.resnet18(weights=None, num_classes=CLASSES)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "residual": (Residual, (8,)),
    "recurrent": (Recurrent, (5, 4)),
    "gated": (Gated, (4, 4)),
    "encoder": (Encoder, (7, 4)),
    "bridged": (Bridged, (1, 8, 8)),
    "shaped": (Shaped, (3, 5)),
}


def batch(
    shape: Sequence[int], place: int, dtype: torch.dtype, size: int = 6
) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(place)
    labels = torch.randint(CLASSES, (size,), generator=source)
    return torch.randn(size, *shape, generator=source).to(dtype), torch.eye(CLASSES).to(dtype)[
        labels
    ]


def made(make: Callable[[], nn.Module], dtype: torch.dtype = torch.float32) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return make().to(dtype).eval()


def equal(ours: nn.Module, theirs: nn.Module) -> bool:
    pairs = zip(ours.parameters(), theirs.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def close(ours: nn.Module, theirs: nn.Module, tolerance: float) -> bool:
    pairs = zip(ours.parameters(), theirs.parameters(), strict=True)
    return all(torch.allclose(a, b, rtol=tolerance, atol=tolerance) for a, b in pairs)


def by_backprop(network: nn.Module, shape: Sequence[int], updates: int, size: int = 6) -> nn.Module:
    """A copy of the network that has learnt by torch.autograd and torch.optim.SGD."""
    theirs = copy.deepcopy(network)
    dtype = next(theirs.parameters()).dtype
    optimiser = torch.optim.SGD(theirs.parameters(), lr=RATE)
    for place in range(updates):
        reference.train_step(theirs, optimiser, *batch(shape, place, dtype, size))
    return theirs


def by(
    network: nn.Module,
    shape: Sequence[int],
    updates: int,
    method: Method,
    size: int = 6,
    change: Callable[[GraphNetwork], GraphNetwork] = lambda graph: graph,
    **how: Any,
) -> nn.Module:
    """A copy of the network that has learnt by a method.

    change  changes the graph before it learns
    """
    ours = copy.deepcopy(network)
    graph = change(predictive_graph(ours, **how))
    dtype = next(ours.parameters()).dtype
    for place in range(updates):
        graph.update(*batch(shape, place, dtype, size), RATE, method)
    return ours


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_z_il_is_backprop_in_every_parameter(
    cpu: torch.device, name: str, dtype: torch.dtype
) -> None:
    make, shape = NETWORKS[name]
    network = made(make, dtype)
    theirs = by_backprop(network, shape, updates=50)
    assert not equal(theirs, network)
    for method in (SWEEP, LITERAL):
        assert equal(by(network, shape, 50, method), theirs), method


@pytest.mark.parametrize("updates", [1, pytest.param(50, marks=pytest.mark.long)])
def test_z_il_is_backprop_on_torchvisions_resnet_18(cpu: torch.device, updates: int) -> None:
    network = made(resnet)
    theirs = by_backprop(network, (3, 32, 32), updates, size=2)
    assert not equal(theirs, network)
    for method in (SWEEP, LITERAL):
        assert equal(by(network, (3, 32, 32), updates, method, size=2), theirs), method


def test_a_residual_block_of_two_vertices_needs_one_identity_vertex() -> None:
    """Cut as in the literature: after the ReLUs, and nowhere else."""
    cuts = [name for name, target in operations(made(resnet)) if "relu" in name]
    graph = predictive_graph(made(resnet), cuts).graph
    delays = [graph.delay(use) for use in graph.uses]
    assert sum(delays) == 8
    assert set(delays) == {0, 1}
    assert not graph.is_levelled


@pytest.mark.parametrize("name", ["residual", "gated", "encoder", "bridged"])
def test_without_identity_vertices_it_is_not_backprop(cpu: torch.device, name: str) -> None:
    make, shape = NETWORKS[name]
    network = made(make)
    theirs = by_backprop(network, shape, updates=2)
    for method in (SWEEP, LITERAL):
        assert not close(by(network, shape, 2, method, levelled=False), theirs, 1e-5)


def one_identity_left_out(graph: GraphNetwork) -> GraphNetwork:
    late = next(use for use in graph.graph.uses if graph.graph.delay(use))
    whole = graph.graph.delay
    object.__setattr__(graph.graph, "delay", lambda use: whole(use) - (use == late))
    return graph


def one_level_wrong(graph: GraphNetwork) -> GraphNetwork:
    first = graph.graph.vertices[0]
    graph.levels = {**graph.levels, first: graph.levels[first] - 1}
    return graph


def shared_weights_move_early(graph: GraphNetwork) -> GraphNetwork:
    """Each parameter moves at the level of the first vertex whose changes are known."""
    reads = graph._reads
    graph._last_level = lambda parameter: min(  # type: ignore[method-assign]
        graph.levels[name] for name, of in reads.items() if any(k == parameter for k, _ in of)
    )
    return graph


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("residual", one_identity_left_out),
        ("encoder", one_identity_left_out),
        ("residual", one_level_wrong),
        ("recurrent", shared_weights_move_early),
        ("gated", shared_weights_move_early),
    ],
)
def test_what_must_break_it_does(
    cpu: torch.device, name: str, change: Callable[[GraphNetwork], GraphNetwork]
) -> None:
    make, shape = NETWORKS[name]
    network = made(make)
    theirs = by_backprop(network, shape, updates=2)
    assert equal(by(network, shape, 2, LITERAL), theirs)
    assert not close(by(network, shape, 2, LITERAL, change=change), theirs, 1e-6)


def added_the_other_way_round(graph: GraphNetwork) -> GraphNetwork:
    used = {name: tuple(reversed(uses)) for name, uses in graph.graph.used.items()}
    graph.graph.__dict__["used"] = used
    graph._check = lambda named: None  # type: ignore[method-assign]
    return graph


def test_another_order_of_summation_changes_last_bits_only(cpu: torch.device) -> None:
    make, shape = NETWORKS["encoder"]
    network = made(make)
    theirs = by_backprop(network, shape, updates=2)
    assert equal(by(network, shape, 2, LITERAL), theirs)
    ours = by(network, shape, 2, LITERAL, change=added_the_other_way_round)
    assert not equal(ours, theirs)
    assert close(ours, theirs, 1e-5)


class Idle(nn.Module):
    """Operations that return the very tensor that they read: an activity, or a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 6), nn.Linear(6, CLASSES)
        self.drop, self.scale = nn.Dropout(), nn.Parameter(torch.linspace(0.5, 1.5, 6))

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        same = self.drop(h)
        factor = self.scale.contiguous()
        return self.last(same.contiguous() * factor + h * factor)  # type: ignore[no-any-return]


@pytest.mark.parametrize("gamma", [1.0, 0.7])
def test_a_vertex_may_return_what_it_reads(cpu: torch.device, gamma: float) -> None:
    """Oracle: the literal schedule, in which every activity is a tensor of its own."""
    network = made(Idle)
    cuts = ["first", "drop", "contiguous", "contiguous_1", "mul", "mul_1"]
    methods = [Method(rule="Z-IL", gamma=gamma, schedule=s) for s in ("layerwise", "literal")]
    sweep, literal = (by(network, (8,), 3, method, cuts=cuts) for method in methods)
    assert predictive_graph(network, cuts).graph.vertices[:-1] == tuple(cuts)
    assert equal(sweep, literal)
    assert equal(sweep, by_backprop(network, (8,), updates=3)) == (gamma == 1.0)


class Viewed(nn.Module):
    """A view of a parameter that is an activity, and that moves before others do."""

    def __init__(self, view: bool) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, CLASSES)
        self.scale, self.view = nn.Parameter(torch.linspace(0.5, 1.5, 8)), view

    def forward(self, x: Tensor) -> Tensor:
        factor = self.scale.view(1, 8) if self.view else self.scale * 1.0
        h = torch.relu(self.second(torch.relu(self.first(x))) * factor)
        return self.last(torch.relu(h) * factor)  # type: ignore[no-any-return]


def test_an_activity_does_not_move_with_the_parameter_that_it_is_a_view_of(
    cpu: torch.device,
) -> None:
    """Oracle: the same network with a copy of the parameter. A graph that is not levelled tells the
    difference, because there errors arrive after the parameter has moved."""
    cuts, method = ["first", "second", "relu", "relu_1", "relu_2"], Method(rule="Z-IL", gamma=0.5)
    view, copied = (made(lambda v=v: Viewed(v)) for v in (True, False))  # type: ignore[misc]
    ours = by(view, (8,), 3, method, levelled=False, cuts=[*cuts, "view"])
    assert equal(ours, by(copied, (8,), 3, method, levelled=False, cuts=[*cuts, "mul"]))


class Returned(nn.Module):
    """An operation that returns the very tensor that three others read, directly or through it."""

    def __init__(self, early: bool) -> None:
        super().__init__()
        self.first, self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.last, self.same, self.early = nn.Linear(8, CLASSES), nn.Identity(), early

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        same = self.same(h) if self.early else h
        total = self.a(h) + self.b(h)
        return self.last(total * (same if self.early else self.same(h)))  # type: ignore[no-any-return]


def test_what_is_returned_itself_is_read_in_autograds_order_or_refused(cpu: torch.device) -> None:
    late, early = (made(lambda e=e: Returned(e)) for e in (False, True))  # type: ignore[misc]
    theirs = by_backprop(late, (8,), updates=3)
    for method in (SWEEP, LITERAL):
        assert equal(by(late, (8,), 3, method), theirs)
        with pytest.raises(InputError, match="same returns first itself, which other operations"):
            by(early, (8,), 3, method)


class Summed(nn.Module):
    """The gradient of a sum is one number that is expanded over all pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.last = (
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.Linear(4, CLASSES),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.a(x)).sum((2, 3)) / 64)  # type: ignore[no-any-return]


class Transformed(nn.Module):
    """The gradient of a Fourier transform is strided."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.last = nn.Linear(8, 12), nn.Linear(7, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.fft.rfft(self.a(x)).abs())  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("make", "shape"), [(Summed, (1, 8, 8)), (Transformed, (8,))], ids=["expanded", "strided"]
)
def test_an_error_has_the_layout_of_autograds_gradient(
    cpu: torch.device, make: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    network = made(make)
    theirs = by_backprop(network, shape, updates=20)
    for method in (SWEEP, LITERAL):
        assert equal(by(network, shape, 20, method), theirs), method
    slow = [Method(rule="Z-IL", gamma=0.7, schedule=s) for s in ("layerwise", "literal")]
    assert equal(*(by(network, shape, 20, method) for method in slow))


class Detached(nn.Module):
    """A network of two paths, of which no error passes through one, or through either."""

    def __init__(self, both: bool) -> None:
        super().__init__()
        self.a, self.b, self.both = nn.Linear(8, CLASSES), nn.Linear(8, CLASSES), both

    def forward(self, x: Tensor) -> Tensor:
        kept = self.a(x).detach()
        other = torch.tanh(self.b(x))
        return kept * (other.detach() if self.both else other)  # type: ignore[no-any-return]


@pytest.mark.parametrize("method", [SWEEP, LITERAL], ids=["sweep", "literal"])
def test_no_error_passes_a_detach(cpu: torch.device, method: Method) -> None:
    one, both = made(lambda: Detached(False)), made(lambda: Detached(True))
    assert equal(by(one, (8,), 3, method), by_backprop(one, (8,), updates=3))
    assert equal(by(both, (8,), 3, method), both)


def test_a_sweep_leaves_nothing_behind(cpu: torch.device) -> None:
    """A cycle of references would keep all activities of an update until Python looks for it."""
    make, shape = NETWORKS["encoder"]
    network = made(make)
    graph, (x, y) = predictive_graph(network), batch(shape, 0, torch.float32)
    graph.update(x, y, RATE, SWEEP)
    gc.collect()
    gc.disable()
    try:
        before = sum(type(each) is Tensor for each in gc.get_objects())
        graph.update(x, y, RATE, Method(rule="Z-IL", gamma=0.5))
        assert sum(type(each) is Tensor for each in gc.get_objects()) == before
    finally:
        gc.enable()
    assert not any(parameter._backward_hooks for parameter in network.parameters())


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("gamma", [0.5, 0.7])
def test_gamma_scales_a_vertexs_rate_by_its_power(
    cpu: torch.device, name: str, gamma: float
) -> None:
    """A vertex of level l learns at the rate alpha gamma^l, identity vertices included."""
    make, shape = NETWORKS[name]
    network = made(make, torch.float64)
    x, y = batch(shape, 0, torch.float64)
    plain, ours, literal = (copy.deepcopy(network) for _ in range(3))
    graph = predictive_graph(ours)
    graph.update(x, y, RATE, Method(rule="Z-IL", gamma=gamma))
    predictive_graph(literal).update(
        x, y, RATE, Method(rule="Z-IL", gamma=gamma, schedule="literal")
    )
    assert equal(ours, literal)
    predictive_graph(plain).update(x, y, RATE, SWEEP)
    names = {id(p): label for label, p in ours.named_parameters()}
    levels: dict[str, set[int]] = {}
    for vertex, reads in graph._reads.items():
        for k, _ in reads:
            label = names[id(graph._network.parameters[k])]
            levels.setdefault(label, set()).add(graph.levels[vertex])
    before, after = dict(network.named_parameters()), dict(ours.named_parameters())
    alone = {label: of.pop() for label, of in levels.items() if len(of) == 1}
    assert len(alone) >= 2
    for label, p in plain.named_parameters():
        if label in alone:
            expected = (p - before[label]) * gamma ** alone[label]
            assert torch.allclose(after[label] - before[label], expected, rtol=1e-9, atol=1e-15)


CHAIN_METHODS = [
    Method(rule=rule, gamma=gamma, sigma=sigma, arithmetic=arithmetic, schedule=schedule, **more)
    for rule, more in (("Z-IL", {}), ("IL", {"t": 0}), ("IL", {"t": 5}), ("Fa-Z-IL", {"t_d": 1}))
    for gamma, sigma in ((1.0, 0.0), (0.3, 0.0), (0.3, 0.1))
    for arithmetic in ("displacement", "textbook")
    for schedule in ("layerwise", "literal")
]


@pytest.mark.parametrize("method", CHAIN_METHODS, ids=str)
def test_a_graph_that_is_a_chain_gives_the_bits_of_the_chain(
    cpu: torch.device, method: Method
) -> None:
    chain = made(
        lambda: nn.Sequential(
            nn.Linear(8, 7), nn.Sigmoid(), nn.Linear(7, 6), nn.Tanh(), nn.Linear(6, CLASSES)
        )
    )
    ours, theirs = copy.deepcopy(chain), copy.deepcopy(chain)
    graph, pcn = predictive_graph(ours), predictive(theirs)  # type: ignore[arg-type]
    for place in range(4):
        x, y = batch((8,), place, torch.float32)
        normals = [
            torch.randn(6, width, generator=torch.Generator().manual_seed(9)) for width in (7, 6)
        ]
        named = dict(zip(graph.graph.vertices[:-1], normals, strict=True))
        graph.update(x, y, RATE, method, named if method.sigma else None)
        pcn.update(x, y, RATE, method, normals if method.sigma else ())
    assert equal(ours, theirs)


class Random(nn.Module):
    """A network of random operations on rows of four numbers. Each operation reads what comes
    before it, and what nobody reads is added up at the end."""

    def __init__(self, operations: Sequence[tuple[str, int, int]]) -> None:
        super().__init__()
        self.plan = operations
        self.linears = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.last = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        values, read = [torch.tanh(self.linears[0](x))], set()
        for name, i, j in self.plan:
            a, b = i % len(values), j % len(values)
            read |= {a, b} if name in ("add", "mul") else {a}
            if name == "linear":
                values.append(torch.tanh(self.linears[j % 3](values[a])))
            elif name == "add":
                values.append(values[a] + values[b])
            elif name == "mul":
                values.append(values[a] * values[b])
            elif name == "same":
                values.append(values[a].contiguous())  # the very tensor
            else:
                values.append(torch.sigmoid(values[a]))
        left = [value for place, value in enumerate(values) if place not in read]
        total = left[0]
        for value in left[1:]:
            total = total + value
        return self.last(total)  # type: ignore[no-any-return]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["linear", "add", "mul", "same", "sigmoid"]),
            st.integers(0, 9),
            st.integers(0, 9),
        ),
        min_size=1,
        max_size=9,
    )
)
def test_random_graphs_are_backprop_or_refused(plan: list[tuple[str, int, int]]) -> None:
    """Fan-out, skips, weights that several operations share, and products of moving activities."""
    network = made(lambda: Random(plan), torch.float32)
    theirs = by_backprop(network, (4,), updates=3)
    for method in (SWEEP, LITERAL):
        try:
            ours = by(network, (4,), 3, method)
        except InputError as error:
            assert "in another order" in str(error)
            continue
        assert equal(ours, theirs)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_last_activity_is_what_the_network_returns(cpu: torch.device, name: str) -> None:
    make, shape = NETWORKS[name]
    network = made(make)
    x, _ = batch(shape, 0, torch.float32)
    graph = predictive_graph(network)
    found = graph.activities(x)
    assert list(found) == list(graph.graph.vertices)
    assert torch.equal(found[graph.graph.output], network(x))


def test_levels_are_the_longest_paths() -> None:
    uses = (
        Use("a", "b", 1),
        Use("b", "d", 2),
        Use("a", "d", 3),
        Use("a", "c", 4),
        Use("c", "d", 5),
    )
    graph = Graph(("a", "b", "c", "d"), uses)
    assert graph.levels == {"d": 0, "c": 1, "b": 1, "a": 2}
    assert graph.shortest == {"d": 0, "c": 1, "b": 1, "a": 1}
    assert [graph.delay(use) for use in uses] == [0, 0, 1, 0, 0]
    assert [use.place for use in graph.used["a"]] == [4, 3, 1]


# Bad input


def network_of(forward: Callable[[Any, Tensor], Any]) -> nn.Module:
    class Made(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(8, 8), nn.Linear(8, CLASSES)
            self.act = nn.ReLU(inplace=True)
            self.same, self.asleep, self.flat = nn.Identity(), nn.Dropout(), nn.Flatten()
            self.drowsy = nn.Dropout(inplace=True)

    Made.forward = forward  # type: ignore[method-assign]
    return Made().eval()


def written_into_and_read_later(self: Any, x: Tensor) -> Tensor:
    y = self.a(x)
    return self.b(y.relu_() + y)  # type: ignore[no-any-return]


def a_view_is_read_later(self: Any, x: Tensor) -> Tensor:
    y = self.a(x)
    view = y.view(-1, 8)
    y += 1.0
    return self.b(y * view)  # type: ignore[no-any-return]


def a_module_writes_twice(self: Any, x: Tensor) -> Tensor:
    y = self.b(self.act(self.a(x)))
    return self.act(y) + y  # type: ignore[no-any-return]


BAD: dict[str, tuple[Callable[[Any, Tensor], Any], str]] = {
    "two outputs": (lambda self, x: (self.a(x), self.b(x)), "it must return one tensor"),
    "its input": (lambda self, x: x, "no computed tensor"),
    "a branch": (lambda self, x: self.b(x) if x.sum() > 0 else self.a(x), "cannot be traced"),
    "unused": (lambda self, x: (self.a(x), self.b(x))[1], "a is computed and not used"),
    "in place": (written_into_and_read_later, "relu_ writes into a, which add reads later"),
    "a module twice": (a_module_writes_twice, "act_1 writes into b, which add reads later"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_networks_are_refused_in_one_line(case: str) -> None:
    forward, message = BAD[case]
    with pytest.raises(InputError, match=message):
        predictive_graph(network_of(forward))


def test_a_weight_that_a_vertex_reads_in_several_ways_learns_from_all(cpu: torch.device) -> None:
    """As a parameter, in a module, and in a module that is called twice."""

    def forward(self: Any, x: Tensor) -> Tensor:
        h = torch.tanh(self.a(x))
        g = torch.einsum("bi,bj,jk->bik", h, self.same(h), self.a.weight)
        return self.b(torch.tanh(self.a(torch.tanh(self.a(g)))).mean(1))  # type: ignore[no-any-return]

    network = made(lambda: network_of(forward))
    theirs = by_backprop(network, (8,), updates=3)
    for method in (SWEEP, LITERAL):
        for cuts in (None, ["tanh"], ["tanh_1"]):
            assert equal(by(network, (8,), 3, method, cuts=cuts), theirs)


class Doubled(torch.autograd.Function):
    """A function whose gradient is not that of its operations."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, error: Tensor) -> Tensor:  # type: ignore[override]
        return error * 7


def has_no_gradients(self: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        h = torch.tanh(self.a(x))
    return self.b(h)  # type: ignore[no-any-return]


def is_of_another_precision(self: Any, x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        h = torch.tanh(self.a(x))
    return self.b(h.float())  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "forward",
    [
        has_no_gradients,
        is_of_another_precision,
        lambda self, x: self.b(Doubled.apply(self.a(x))),
    ],
)
def test_what_no_trace_shows_is_refused(forward: Callable[[Any, Tensor], Tensor]) -> None:
    with pytest.raises(InputError, match="no trace shows that"):
        predictive_graph(network_of(forward))


@pytest.mark.parametrize(
    "hook",
    [
        lambda self: self.register_forward_hook(lambda module, args, result: result * 2),
        lambda self: self.a.register_full_backward_hook(lambda module, given, got: (given[0] * 2,)),
        lambda self: self.a.weight.register_hook(lambda error: error * 2),
        lambda self: self.a.weight.register_post_accumulate_grad_hook(lambda p: p.grad.mul_(2)),
    ],
)
def test_hooks_of_gradients_and_of_the_whole_network_are_refused(
    hook: Callable[[Any], Any],
) -> None:
    network = network_of(lambda self, x: self.b(torch.tanh(self.a(x))))
    predictive_graph(network)
    hook(network)
    with pytest.raises(InputError, match="has hooks, and no trace shows them"):
        predictive_graph(network)


def through(view: Callable[[Any, Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    def forward(self: Any, x: Tensor) -> Tensor:
        y = self.a(x)
        other = view(self, y)
        other *= 3.0
        return self.b(y + other.sum())  # type: ignore[no-any-return]

    return forward


@pytest.mark.parametrize(
    "forward",
    [
        a_view_is_read_later,
        through(lambda self, y: self.same(y)),
        through(lambda self, y: self.asleep(y)),
        through(lambda self, y: self.flat(y)),
        through(lambda self, y: y.float()),
        through(lambda self, y: y.contiguous()),
        through(lambda self, y: y.T),
        through(lambda self, y: y.swapaxes(0, 1)),
        through(lambda self, y: y.unfold(1, 4, 4)),
        through(lambda self, y: torch.diagonal(y)),
    ],
)
def test_a_write_into_memory_that_is_read_later_is_refused(
    forward: Callable[[Any, Tensor], Tensor],
) -> None:
    graph = predictive_graph(network_of(forward))
    with pytest.raises(InputError, match=r"writes into .* reads later"):
        graph.update(*batch((8,), 0, torch.float32), RATE, SWEEP)


def test_inputs_of_another_shape_are_checked_anew() -> None:
    """One row that is transposed is contiguous, and several rows are not."""
    graph = predictive_graph(network_of(through(lambda self, y: y.T.contiguous())))
    graph.update(*batch((8,), 0, torch.float32), RATE, SWEEP)
    with pytest.raises(InputError, match=r"writes into .* reads later"):
        graph.update(*batch((8,), 0, torch.float32, size=1), RATE, SWEEP)


def test_a_write_into_a_buffer_of_the_network_is_refused() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        return self.b(torch.tanh(self.a(x)) * self.count.add_(1.0))  # type: ignore[no-any-return]

    network = network_of(forward)
    network.register_buffer("count", torch.zeros(1))
    with pytest.raises(InputError, match="writes into a buffer of its own"):
        predictive_graph(network)


@pytest.mark.parametrize("name", ["zero_", "copy_", "uniform_", "requires_grad_"])
def test_what_cannot_work_out_of_place_is_refused(name: str) -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        more = (x,) if name == "copy_" else ()
        return self.b(self.a(x) + getattr(torch.zeros_like(x), name)(*more))  # type: ignore[no-any-return]

    with pytest.raises(InputError, match=f"{name} has no form that works out of place"):
        predictive_graph(network_of(forward))


def attends_with_dropout(self: Any, x: Tensor) -> Tensor:
    h = self.a(x).view(-1, 2, 4)
    drawn = nn.functional.scaled_dot_product_attention(h, h, h, None, 0.5)
    return self.b(drawn.reshape(-1, 8))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "forward",
    [
        attends_with_dropout,
        lambda self, x: self.b(nn.functional.gumbel_softmax(self.a(x))),
        lambda self, x: self.b(torch.dropout(self.a(x), 0.5, True)),
    ],
)
def test_what_draws_under_another_name_is_refused(
    forward: Callable[[Any, Tensor], Tensor],
) -> None:
    graph = predictive_graph(network_of(forward))
    with pytest.raises(InputError, match="draws anew at each prediction"):
        graph.update(*batch((8,), 0, torch.float32), RATE, SWEEP)


def test_an_argument_may_have_any_name(cpu: torch.device) -> None:
    network = made(lambda: network_of(lambda self, boundaries: self.b(self.a(boundaries))))
    theirs = by_backprop(network, (8,), updates=2)
    assert equal(by(network, (8,), 2, SWEEP), theirs)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")
def test_arguments_and_modules_without_a_python_of_their_own_are_refused() -> None:
    network = network_of(lambda self, *x: self.b(self.a(x[0])))
    with pytest.raises(InputError, match=r"forward takes \*x"):
        predictive_graph(network)
    with pytest.raises(InputError, match=r"cannot be traced by torch\.fx"):
        predictive_graph(torch.jit.script(nn.Sequential(nn.Linear(8, CLASSES))))  # type: ignore[no-untyped-call]
    network = network_of(lambda self, x: self.b(self.a(x)))
    network.a = torch.jit.script(nn.Linear(8, 8))  # type: ignore[no-untyped-call]
    with pytest.raises(InputError, match="does not share its parameters"):
        predictive_graph(network)


@pytest.mark.parametrize("method", [SWEEP, LITERAL], ids=["sweep", "literal"])
@pytest.mark.parametrize("learns", [True, False])
def test_a_parameter_that_is_frozen_or_thawed_later_is_refused(
    method: Method, learns: bool
) -> None:
    network = network_of(lambda self, x: self.b(self.a(x)))
    network.a.requires_grad_(learns)
    graph, (x, y) = predictive_graph(network), batch((8,), 0, torch.float32)
    graph.update(x, y, RATE, method)
    network.a.requires_grad_(not learns)
    with pytest.raises(InputError, match="requires_grad of a parameter has changed"):
        graph.update(x, y, RATE, method)


@pytest.mark.parametrize(
    "mode", [torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)]
)
def test_an_update_in_another_mode_of_torch_is_refused(mode: Callable[[], Any]) -> None:
    graph = predictive_graph(network_of(lambda self, x: self.b(self.a(x))))
    with mode(), pytest.raises(InputError, match=r"runs in torch\.inference_mode"):
        graph.update(*batch((8,), 0, torch.float32), RATE, SWEEP)


class Leaves(nn.Module):
    """A network with modules that return tuples."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 8)
        self.attention = nn.MultiheadAttention(8, 2, dropout=dropout, batch_first=True)
        self.lstm = nn.LSTM(8, 8, 2, batch_first=True)
        self.last = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        seen, _ = self.attention(h, h, h, need_weights=False)
        h, _ = self.lstm(torch.tanh(seen))
        return self.last(h[:, -1] + seen.mean(1))  # type: ignore[no-any-return]


def test_modules_that_return_tuples_are_vertices(cpu: torch.device) -> None:
    network = made(Leaves)
    theirs = by_backprop(network, (3, 4), updates=5)
    for method in (SWEEP, LITERAL):
        assert equal(by(network, (3, 4), 5, method), theirs)
    graph = predictive_graph(Leaves(dropout=0.5).train())
    with pytest.raises(InputError, match="attention draws anew at each prediction"):
        graph.update(*batch((3, 4), 0, torch.float32), RATE, SWEEP)


@pytest.mark.parametrize(
    ("forward", "cut", "kind"),
    [
        (lambda self, x: self.b(torch.round(self.a(x)).long().float()), "long", "torch.int64"),
        (
            lambda self, x: self.b(
                torch.view_as_complex(self.a(x).view(-1, 4, 2)).abs().repeat(1, 2)
            ),
            "view_as_complex",
            "torch.complex64",
        ),
        (lambda self, x: self.b(torch.cat(torch.chunk(self.a(x), 2, 1), 1)), "chunk", "tuple"),
    ],
)
def test_an_activity_is_a_tensor_of_real_numbers(
    forward: Callable[[Any, Tensor], Tensor], cut: str, kind: str
) -> None:
    graph = predictive_graph(network_of(forward), cuts=[cut])
    with pytest.raises(InputError, match=f"the activity of {cut} is {kind}"):
        graph.update(*batch((8,), 0, torch.float32), RATE, SWEEP)


def test_reading_twice_inside_an_operation_is_refused_where_it_would_not_be_exact() -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        y = self.a(x)
        return self.b(torch.tanh(y * y) + y)  # type: ignore[no-any-return]

    graph = predictive_graph(network_of(forward))
    with pytest.raises(InputError, match="reads the activity a several times"):
        graph.update(*batch((8,), 0, torch.float32), RATE, SWEEP)


def works_in_place(self: Any, x: Tensor) -> Tensor:
    y = self.a(x)
    y += 1.0
    y = torch.relu_(y.mul_(2.0))
    z = nn.functional.relu(y - 0.5, inplace=True)
    return self.b(self.act(z * 2.0 - y))  # type: ignore[no-any-return]


def test_what_works_in_place_is_run_out_of_place(cpu: torch.device) -> None:
    network = made(lambda: network_of(works_in_place))
    theirs = by_backprop(network, (8,), updates=3)
    for method in (SWEEP, LITERAL):
        assert equal(by(network, (8,), 3, method), theirs)


def sleeps_in_place(self: Any, x: Tensor) -> Tensor:
    """As in torchvision's EfficientNet and MobileNetV3."""
    return self.b(self.drowsy(self.a(x)).view(-1, 8))  # type: ignore[no-any-return]


def test_a_dropout_in_place_that_sleeps_writes_nothing(cpu: torch.device) -> None:
    network = made(lambda: network_of(sleeps_in_place))
    theirs = by_backprop(network, (8,), updates=3)
    for method in (SWEEP, LITERAL):
        assert equal(by(network, (8,), 3, method), theirs)


@pytest.mark.parametrize(
    "forward",
    [
        lambda self, x: self.b(nn.functional.dropout(self.a(x), 0.5)),
        lambda self, x: self.b(self.a(x) + torch.rand(8)),
        lambda self, x: self.b(self.a(x) * random.random()),
        lambda self, x: self.b(torch.bernoulli(torch.sigmoid(self.a(x)))),
        lambda self, x: self.b(torch.randn_like(x) * self.a(x)),
    ],
)
def test_an_operation_that_draws_is_refused(forward: Callable[[Any, Tensor], Tensor]) -> None:
    with pytest.raises(InputError, match="draws anew at each prediction"):
        predictive_graph(network_of(forward))


@pytest.mark.parametrize(
    ("layer", "message"),
    [(nn.Dropout(0.5), "draws anew at each prediction"), (nn.BatchNorm1d(8), "changes with each")],
)
def test_what_does_not_repeat_itself_is_refused(layer: nn.Module, message: str) -> None:
    with pytest.raises(InputError, match=message):
        predictive_graph(nn.Sequential(nn.Linear(8, 8), layer, nn.Linear(8, CLASSES)))


def test_wrong_arguments_are_refused() -> None:
    graph = predictive_graph(network_of(lambda self, x: self.b(torch.tanh(self.a(x)))))
    x, y = batch((8,), 0, torch.float32)
    with pytest.raises(InputError, match="2 inputs for a network of 1: x"):
        graph.update([x, x], y, RATE, SWEEP)
    with pytest.raises(InputError, match="input x is a NoneType"):
        graph.update([None], y, RATE, SWEEP)  # type: ignore[list-item]
    with pytest.raises(InputError, match="targets of true and false"):
        graph.update(x, y > 0, RATE, SWEEP)
    with pytest.raises(InputError, match="give a target for every output"):
        graph.update(x, y[:, :2], RATE, SWEEP)
    with pytest.raises(InputError, match="give standard normals for each hidden vertex: a"):
        graph.update(x, y, RATE, Method(rule="Z-IL", sigma=0.1))
    with pytest.raises(InputError, match="cut 'aa': the network has no such operation"):
        predictive_graph(network_of(lambda self, x: self.b(self.a(x))), cuts=["aa"])
    frozen = network_of(lambda self, x: self.b(self.a(x))).requires_grad_(False)
    with pytest.raises(InputError, match="the network has no parameters"):
        predictive_graph(frozen)
