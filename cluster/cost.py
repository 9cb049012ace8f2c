"""What trials cost: a fixed table, so that packing does not depend on any machine.

Microseconds per weight update of one trial in a stack, fitted to one core of a 2-core AVX-512
machine (float32, 784-32-..-10, batch 20). Only ratios matter for packing; the minutes that `--plan`
prints are this machine's.
"""

from collections.abc import Sequence
from itertools import pairwise

from pcworker.config import Configuration, Trial

TRAINING_SAMPLES = 60_000

_UPDATE_PER_WEIGHT = 0.0018
_STEP_PER_HIDDEN_UNIT = 0.04
_BACKPROP_CALLS = 450.0
"""BP runs unbatched: the calls cost more than the arithmetic."""
_CALLS_PER_STEP_AND_LAYER = 16.0
"""Of a whole stack."""
_BATCH_CALLS = 100.0
"""Making a seed's batch."""
_EXPLODING_SHARE = 0.02
"""gamma >= 5 at t >= 64 is not finite after the first update, and leaves its stack."""


def trial_cost(config: Configuration) -> float:
    """Microseconds per weight update, in a wide stack."""
    widths = config.widths
    update = _UPDATE_PER_WEIGHT * sum(n * m for n, m in pairwise(widths))
    if config.rule == "BP":
        return _BACKPROP_CALLS + update
    step = _STEP_PER_HIDDEN_UNIT * sum(widths[1:-1]) * (config.batch_size / 20)
    exploding = (config.gamma or 0) >= 5 and config.last_step >= 64
    return (update + step * config.last_step) * (_EXPLODING_SHARE if exploding else 1.0)


def shard_updates(trials: Sequence[Trial]) -> int:
    """Weight updates that a shard makes, of all trials."""
    return len(trials) * _updates(trials[0].configuration)


def shard_seconds(trials: Sequence[Trial]) -> float:
    """Seconds that a shard takes, with its twins."""
    config = trials[0].configuration
    updates = _updates(config)
    distinct = dict.fromkeys([*trials, *(trial.twin for trial in trials)])
    seeds = len({trial.seed for trial in trials})
    steps = 1 + max(trial.configuration.last_step for trial in trials)
    per_update = sum(trial_cost(trial.configuration) for trial in distinct)
    per_update += _CALLS_PER_STEP_AND_LAYER * steps * config.hidden_layers + _BATCH_CALLS * seeds
    return updates * per_update / 1e6


def _updates(config: Configuration) -> int:
    return config.epochs * -(-TRAINING_SAMPLES // config.batch_size)
