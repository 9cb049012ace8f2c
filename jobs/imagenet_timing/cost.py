"""What a timing shard costs: a fixed table, as for the ablations, so that plans are the same on
every machine. The minutes are those of 2 AVX-512 cores; a GPU takes far less."""

from collections.abc import Sequence

from cluster.sweeps.estimate import BYTES_PER_WEIGHT
from jobs.imagenet_timing.configuration import KEPT, TimingConfiguration
from pcworker.networks.catalogue import facts
from pcworker.trials.trial import Trial

_MULTIPLICATIONS_PER_S = 98e9
_LEARNT_PER_S = 0.85e9
"""Parameters: their gradient is written, read and added."""
_READ_PER_S = 1.5e9
"""Parameters: an inference step predicts and pulls back with them."""
_CALLS_S = 50e-6
"""Of the operations on a layer, whatever its size."""
_BIASES = 10_000
"""Of a layer, at most."""
_START_S = 1e-8
"""Per parameter of each rule's network, before and after: made, copied, hashed, compared."""


def update_seconds(config: TimingConfiguration) -> float:
    """Seconds of one weight update."""
    network = facts(config.network)
    predicting = config.batch_size * network.multiplications / _MULTIPLICATIONS_PER_S
    learning = network.parameters / _LEARNT_PER_S
    calls = network.layers * _CALLS_S
    backprop = learning + 3 * predicting + 3 * calls
    step = 2 * predicting + network.parameters / _READ_PER_S + 3 * calls
    if config.rule == "IL":
        # until its errors have reached all layers, half of them on average have nothing to do
        return backprop + step * max(0.0, (config.t or 0) - network.layers / 2)
    if config.schedule == "literal":
        learns = 0.6 * learning + 0.8 * predicting if config.rule == "Fa-Z-IL" else 0.0
        return backprop + network.layers * (step + learns)
    return backprop * (1.05 if config.rule == "Fa-Z-IL" else 1.0) + calls


def timing_seconds(trials: Sequence[Trial[TimingConfiguration]]) -> float:
    """Seconds that a shard takes."""
    config = trials[0].configuration
    per_update = sum(update_seconds(trial.configuration) for trial in trials)
    starting = _START_S * facts(config.network).parameters * len(trials)
    return starting + per_update * timing_updates(trials) / len(trials)


def timing_updates(trials: Sequence[Trial[TimingConfiguration]]) -> int:
    """Weight updates that a shard makes, of all trials."""
    return len(trials) * trials[0].configuration.updates_in_all


def timing_bytes(trials: Sequence[Trial[TimingConfiguration]]) -> int:
    """What the final parameters of a shard take, those that are kept, at most."""
    config = trials[0].configuration
    network = facts(config.network)
    values = network.parameters
    if not config.save_weights:
        values = min(values, network.layers * (KEPT + _BIASES))
    return values * len(trials) * BYTES_PER_WEIGHT


def timing_packs(
    trials: Sequence[Trial[TimingConfiguration]],
) -> list[list[Trial[TimingConfiguration]]]:
    """A shard for each network and seed, with all its rules, BP first: they are timed in turns."""
    shards: dict[Trial[TimingConfiguration], list[Trial[TimingConfiguration]]] = {}
    for trial in trials:
        shards.setdefault(trial.twin, []).append(trial)
    return [sorted(shard, key=_place) for shard in shards.values()]


def _place(trial: Trial[TimingConfiguration]) -> tuple[bool, float, str]:
    """Cheap rules directly after BP: what they are compared with has just been timed."""
    config = trial.configuration
    return config.rule != "BP", update_seconds(config), trial.trial_id
