"""What a timing shard costs: a fixed table, as for the ablations, so that plans are the same on
every machine. The minutes are those of 2 AVX-512 cores; a GPU takes far less."""

from collections.abc import Sequence

from pcworker.catalogue import facts
from pcworker.config import Trial
from pcworker.timing_config import TimingConfiguration

_MULTIPLICATIONS_PER_S = 36e9
"""Of a prediction and of what follows from it, in an update."""
_PARAMETERS_PER_S = 0.45e9
"""That are learnt: their gradient is written, read and added."""
_CALLS_S = 30e-6
"""Of an operation on a layer, whatever its size."""
_START_S = 1e-8
"""Per parameter of each rule's network, before and after: made, copied, hashed, compared."""


def update_seconds(config: TimingConfiguration) -> float:
    """Seconds of one weight update."""
    network = facts(config.network)
    layers = network.layers
    predicting = config.batch_size * network.multiplications / _MULTIPLICATIONS_PER_S
    learning = network.parameters / _PARAMETERS_PER_S
    calls = 10 * layers * _CALLS_S
    if config.rule == "IL":
        # a step predicts and pulls back; only the last one learns
        steps = config.t or 0
        return learning + 3 * predicting + steps * (2 * predicting + calls)
    if config.schedule == "literal":
        every = predicting + learning if config.rule == "Fa-Z-IL" else predicting
        return learning + 3 * predicting + layers * (predicting + every + calls)
    phi = 0.05 if config.rule == "Fa-Z-IL" else 0.0
    return (learning + 3 * predicting) * (1 + phi) + calls


def timing_seconds(trials: Sequence[Trial[TimingConfiguration]]) -> float:
    """Seconds that a shard takes."""
    config = trials[0].configuration
    per_update = sum(update_seconds(trial.configuration) for trial in trials)
    starting = _START_S * facts(config.network).parameters * len(trials)
    return starting + per_update * timing_updates(trials) / len(trials)


def timing_updates(trials: Sequence[Trial[TimingConfiguration]]) -> int:
    """Weight updates that a shard makes, of all trials."""
    config = trials[0].configuration
    loops = config.updates if config.loaders is not None else 0
    return len(trials) * (config.warmup + config.updates + loops)


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
