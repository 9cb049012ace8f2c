"""Measures networks that have learnt: how far their weights are from BP's, and how they answer."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from jobs.any_network.tables import GraphSizes, WeightDistance
from pcworker.data.images import Minibatch
from pcworker.networks.graph.network import GraphNetwork
from pcworker.store.tables import FinalParameter, final_parameter

KEEPS = 100_000
"""The most values of a parameter that is stored. A larger one has its sha256 only."""


def learnt(network: nn.Module) -> list[nn.Parameter]:
    """The parameters that learn."""
    return [p for p in network.parameters() if p.requires_grad]


def sizes_of(network: nn.Module, graph: GraphNetwork) -> GraphSizes:
    """The sizes of a network's graph, levelled."""
    structure = graph.graph
    return GraphSizes(
        parameters=sum(p.numel() for p in learnt(network)),
        vertices=len(structure.vertices),
        levels=max(structure.levels.values()) + 1,
        identities=sum(map(structure.delay, structure.uses)),
    )


def all_finite(network: nn.Module) -> bool:
    """True if all weights are finite."""
    return all(bool(torch.isfinite(p).all()) for p in learnt(network))


def weight_distance(ours: nn.Module, bp: nn.Module) -> WeightDistance:
    """Compares the parameters of two networks."""
    pairs = list(zip(learnt(ours), learnt(bp), strict=True))
    exact = all(torch.equal(a, b) for a, b in pairs)
    if not (all_finite(ours) and all_finite(bp)):
        return WeightDistance(exact, None, None, None)
    squares = total = largest = 0.0
    for a, b in pairs:
        apart = (a.detach().double() - b.detach().double()).abs()
        squares += float((apart * apart).sum())
        total += float(apart.sum())
        largest = max(largest, float(apart.max()))
    return WeightDistance(exact, squares**0.5, total, largest)


def final_parameters(network: nn.Module, graph: GraphNetwork) -> list[FinalParameter]:
    """The parameters that learn, with the level at which each moves, plus 1, as their layer."""
    return [
        final_parameter(
            graph.level_of(p) + 1, name, values := p.detach().cpu().numpy(), values.size <= KEEPS
        )
        for name, p in network.named_parameters()
        if p.requires_grad
    ]


@torch.no_grad()
def wrong_answers(network: nn.Module, batches: Iterable[Minibatch]) -> float | None:
    """The share of the samples whose largest output is not that of their class. None without
    samples."""
    wrong = total = 0
    for batch in batches:
        answers: Tensor = network(batch.inputs).argmax(1)
        wrong += int((answers != batch.targets.argmax(1)).sum())
        total += len(answers)
    return wrong / total if total else None
