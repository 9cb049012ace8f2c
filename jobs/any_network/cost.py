"""Estimates what a shard costs, by fixed speeds of one core, and packs trials into shards.

The speeds are fixed so that a plan is the same on every machine.
"""

import math
from collections.abc import Sequence

from cluster.sweeps.estimate import BYTES_PER_WEIGHT
from jobs.any_network.configuration import NetworkConfiguration
from pcworker.data.picture_sets import picture_set
from pcworker.equations.rules import RULES
from pcworker.networks.zoo.facts import Sizes, graph_facts
from pcworker.trials.trial import Trial

_OPERATION_S = 60e-6
"""Seconds of an operation of the network in an update of BP, forward and backward."""
_PIXEL_S = 0.4e-9
"""Seconds of a parameter with a sample: the work grows with both."""
_OWN = Sizes(parameters=1_000_000, levels=10, operations=50)
"""The sizes that a user's own network is taken to have."""
_START_S = 1.0
"""Seconds of a rule outside its updates: it is traced, tested and compared."""


def network_sizes(config: NetworkConfiguration) -> Sizes:
    """The sizes of a configuration's network, as far as planning knows them."""
    known = graph_facts(config.network)
    return known.sizes[picture_set(config.data).input_shape] if known else _OWN


def seconds_of_an_update(config: NetworkConfiguration) -> float:
    """The seconds of one weight update."""
    sizes, rule = network_sizes(config), RULES[config.rule]
    per_parameter = config.batch_size * _PIXEL_S
    backprop = sizes.operations * _OPERATION_S + sizes.parameters * per_parameter
    if not rule.infers:
        return backprop
    if config.schedule == "layerwise" and rule.layer_by_layer:
        return 1.3 * backprop
    last = rule.last_step(sizes.levels, t=config.t)
    return backprop * (1 + last)


def network_seconds(trials: Sequence[Trial[NetworkConfiguration]]) -> float:
    """The seconds that a shard takes."""
    each = (
        _START_S + t.configuration.updates * seconds_of_an_update(t.configuration) for t in trials
    )
    return math.fsum(each)


def network_updates(trials: Sequence[Trial[NetworkConfiguration]]) -> int:
    """The number of weight updates of all trials of a shard."""
    return sum(trial.configuration.updates for trial in trials)


def network_bytes(trials: Sequence[Trial[NetworkConfiguration]]) -> int:
    """The most bytes that the final parameters of a shard can take in the store."""
    parameters = (network_sizes(trial.configuration).parameters for trial in trials)
    return sum(parameters) * BYTES_PER_WEIGHT


def network_packs(
    trials: Sequence[Trial[NetworkConfiguration]],
) -> list[list[Trial[NetworkConfiguration]]]:
    """Makes one shard of each network and seed. It has all rules, BP first, because they learn in
    turns."""
    shards: dict[Trial[NetworkConfiguration], list[Trial[NetworkConfiguration]]] = {}
    for trial in trials:
        shards.setdefault(trial.twin, []).append(trial)
    return [sorted(shard, key=_place) for shard in shards.values()]


def _place(trial: Trial[NetworkConfiguration]) -> tuple[bool, float, str]:
    """The place of a trial in its shard. Cheap rules follow BP directly, so that little time passes
    between the two times of their ratio."""
    return trial != trial.twin, seconds_of_an_update(trial.configuration), trial.trial_id
