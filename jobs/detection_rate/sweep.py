"""Declares the settings of Table 3 and their variations."""

from collections.abc import Iterator, Sequence
from typing import Any

from cluster.sweeps.sweep import Cell, Sweep, declare
from jobs.detection_rate.configuration import DetectionConfiguration, detection_configuration
from pcworker.data.mnist import mnist_network


def detection_rate(
    *,
    networks: Sequence[str],
    seeds: Sequence[int],
    activations: Sequence[str],
    dtypes: Sequence[str],
    arithmetics: Sequence[str],
    gammas: Sequence[float],
    weights: Sequence[str],
    **settings: Any,
) -> Sweep[DetectionConfiguration]:
    """Declares the sweep. By default it has 8 trials per network and seed.

    The first values of `activations`, `dtypes`, `arithmetics`, `gammas` and `weights` are the base.
    Each other value replaces its base value in one trial, which is the base in all else. `settings`
    are further arguments of `detection_configuration`, equal in all trials. Raises InputError for
    values that it refuses.
    """
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
                made = detection_configuration(network=network, **chosen, **settings)
                yield Cell("detection", made, made.gamma)

    return declare((cell for network in networks for cell in cells(mnist_network(network))), seeds)
