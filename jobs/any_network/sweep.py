"""Declares the cells of the experiment: every rule on every network, and what breaks exactness."""

from collections.abc import Iterator, Sequence
from typing import Any

from cluster.sweeps.sweep import Cell, Sweep, declare, of_rules
from jobs.any_network.configuration import NetworkConfiguration, network_configuration
from pcworker.equations.rules import BP, FA_Z_IL, IL, Z_IL
from pcworker.errors import InputError
from pcworker.networks.zoo.facts import graph_facts

SIGMA, GAMMA, T = (0.0001, 0.01), (0.5, 0.9, 1.1), (0, 1, 2, 4, 16)
"""The values by which the ablation breaks C1 (sigma), C3 (gamma) and C2 (t of IL, with gamma 1)."""
_GAMMA_OF_IL = 0.1
"""The integration step of IL in the table of times, as in the timings of Table 4."""


def any_network(
    *,
    networks: Sequence[str],
    seeds: Sequence[int],
    t: Sequence[int] = (20,),
    cuts: Sequence[str] = (),
    rules: Sequence[str] | None = None,
    ablation: bool = False,
    **settings: Any,
) -> Sweep[NetworkConfiguration]:
    """Declares the sweep. By default it has 6 trials per network and seed.

    t         the values of t for IL
    cuts      the operations after which a vertex ends, for a single network; none: the natural ones
    rules     keeps the cells of these rules; the cells of BP are always kept; None: all cells
    ablation  also the cells that break one of the conditions C1, C2 and C3 each
    settings  further arguments of `network_configuration`, equal in all cells

    Raises InputError for values that `network_configuration` refuses, for cuts of several networks,
    and for a network of the user's own that cannot be made.
    """
    if cuts and len(set(networks)) > 1:
        raise InputError(
            f"cuts {','.join(cuts)} are operations of one network, and {len(set(networks))} are "
            "given; give --networks a single one"
        )
    settings["cuts"] = ",".join(cuts) or None
    cells = [
        cell
        for network in networks
        for cell in (
            *_cells(t, network=network, **settings),
            *_breaking(ablation, network, settings),
        )
    ]
    for network in networks:
        _require_there(network)
    return declare(of_rules(cells, rules), seeds)


def _require_there(network: str) -> None:
    """Raises InputError if a user's own network cannot be made."""
    if graph_facts(network) is None:
        from pcworker.networks.zoo.build import own_network  # it imports torch, as the network does

        own_network(network)


def _cells(t: Sequence[int], **settings: Any) -> Iterator[Cell[NetworkConfiguration]]:
    """Yields the cells of one network in which nothing is broken but what the rule is."""
    yield _cell("rules", rule=BP.name, **settings)
    yield _cell("rules", rule=Z_IL.name, schedule="layerwise", **settings)
    yield _cell("rules", rule=Z_IL.name, schedule="literal", **settings)
    yield _cell("rules", rule=FA_Z_IL.name, **settings)
    yield _cell("levels", rule=Z_IL.name, schedule="literal", levelled=False, **settings)
    for steps in t:
        yield _cell("rules", rule=IL.name, t=steps, gamma=_GAMMA_OF_IL, **settings)


def _breaking(
    ablation: bool, network: str, settings: dict[str, Any]
) -> Iterator[Cell[NetworkConfiguration]]:
    """Yields the cells in which one of the conditions is broken."""
    if not ablation:
        return
    settings = {**settings, "network": network}
    for sigma in SIGMA:
        yield _cell("C1", rule=Z_IL.name, sigma=sigma, **settings)
    for t in T:
        yield _cell("C2", rule=IL.name, t=t, **settings)
    for gamma in GAMMA:
        yield _cell("C3", rule=Z_IL.name, gamma=gamma, **settings)


def _cell(panel: str, **settings: Any) -> Cell[NetworkConfiguration]:
    made = network_configuration(**settings)
    return Cell(panel, made, made.gamma)
