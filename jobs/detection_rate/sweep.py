"""The settings of Table 3, and what is varied around them."""

from collections.abc import Iterator, Sequence
from typing import Any

from cluster.sweeps.sweep import Cell, Sweep, declare
from jobs.detection_rate.configuration import DetectionConfiguration, detection_configuration
from jobs.options import mnist_network


def detection_rate(
    *,
    networks: Sequence[str],
    seeds: Sequence[int],
    activations: Sequence[str],
    dtypes: Sequence[str],
    arithmetics: Sequence[str],
    gammas: Sequence[float],
    weights: Sequence[str],
    **common: Any,
) -> Sweep[DetectionConfiguration]:
    """The sweep: by default 8 trials per network and seed. The first value of each list is the
    base; each other one takes its place, one at a time."""
    axes: dict[str, Sequence[Any]] = {
        "activation": activations,
        "dtype": dtypes,
        "arithmetic": arithmetics,
        "gamma": gammas,
        "weights": weights,
    }
    base = {name: values[0] for name, values in axes.items()}

    def cells(network: str) -> Iterator[Cell[DetectionConfiguration]]:
        for name, values in axes.items():
            for value in values:
                chosen = base | {name: value}
                made = detection_configuration(network=network, **chosen, **common)
                yield Cell("detection", made, made.gamma)

    return declare((cell for network in networks for cell in cells(mnist_network(network))), seeds)
