"""Estimates what a timing shard costs, by fixed speeds, and packs trials into shards.

The speeds are fixed so that a plan is the same on every machine. They are those of 2 AVX-512 cores;
a GPU is far faster.
"""

from collections.abc import Sequence

from cluster.sweeps.estimate import BYTES_PER_WEIGHT
from jobs.imagenet_timing.configuration import KEPT, TimingConfiguration
from pcworker.equations.rules import RULES
from pcworker.networks.catalogue import facts
from pcworker.trials.trial import Trial

_MULTIPLICATIONS_PER_S = 98e9
_LEARNT_PER_S = 0.85e9
"""Parameters per second that learn: their gradients are written, read and added."""
_READ_PER_S = 1.5e9
"""Parameters per second with which an inference step predicts and pulls back."""
_CALLS_S = 50e-6
"""Seconds that the calls of a layer's operations take, whatever its size."""
_BIASES = 10_000
"""The largest number of biases of a layer."""
_START_S = 1e-8
"""Seconds per parameter of each rule's network outside the updates: it is made, copied, hashed and
compared."""
_COMPILE_S = 30.0
"""Seconds in which torch.compile compiles BP, if it has not kept the result: those of the smallest
network."""


def update_seconds(config: TimingConfiguration) -> float:
    """The seconds of one weight update."""
    network = facts(config.network)
    predicting = config.batch_size * network.multiplications / _MULTIPLICATIONS_PER_S
    learning = network.parameters / _LEARNT_PER_S
    calls = network.layers * _CALLS_S
    backprop = learning + 3 * predicting + 3 * calls
    step = 2 * predicting + network.parameters / _READ_PER_S + 3 * calls
    rule = RULES[config.rule]
    if config.t is not None:
        # until the errors have reached all layers, on average half of the layers have no work
        return backprop + step * max(0.0, config.t - network.layers / 2)
    if config.schedule == "literal":
        learns = 0.6 * learning + 0.8 * predicting if rule.gated else 0.0
        return backprop + network.layers * (step + learns)
    return backprop * (1.05 if rule.gated else 1.0) + calls


def timing_seconds(trials: Sequence[Trial[TimingConfiguration]]) -> float:
    """The seconds that a shard takes."""
    config = trials[0].configuration
    per_update = sum(update_seconds(trial.configuration) for trial in trials)
    starting = _START_S * facts(config.network).parameters * len(trials)
    starting += _COMPILE_S * sum(each.configuration.execution == "compiled" for each in trials)
    return starting + per_update * timing_updates(trials) / len(trials)


def timing_updates(trials: Sequence[Trial[TimingConfiguration]]) -> int:
    """The number of weight updates of all trials of a shard."""
    return len(trials) * trials[0].configuration.updates_in_all


def timing_bytes(trials: Sequence[Trial[TimingConfiguration]]) -> int:
    """The most bytes that the final parameters of a shard can take in the store."""
    config = trials[0].configuration
    network = facts(config.network)
    values = network.parameters
    if not config.save_weights:
        values = min(values, network.layers * (KEPT + _BIASES))
    return values * len(trials) * BYTES_PER_WEIGHT


def timing_packs(
    trials: Sequence[Trial[TimingConfiguration]],
) -> list[list[Trial[TimingConfiguration]]]:
    """Makes one shard of each network and seed. It has all rules, BP first, because they are timed
    in turns."""
    shards: dict[Trial[TimingConfiguration], list[Trial[TimingConfiguration]]] = {}
    for trial in trials:
        shards.setdefault(trial.twin, []).append(trial)
    return [sorted(shard, key=_place) for shard in shards.values()]


def _place(trial: Trial[TimingConfiguration]) -> tuple[bool, float, str]:
    """The place of a trial in its shard. Cheap rules follow plain BP directly, so that little time
    passes between the two times of their ratio."""
    return trial != trial.twin, update_seconds(trial.configuration), trial.trial_id
