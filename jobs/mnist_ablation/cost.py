"""Estimates what trials and shards cost, from a table of speeds.

The table is fixed, so that estimates are the same on every machine. For the minutes that are
printed, the room `speed` can replace the table by speeds of this machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from cluster.sweeps.estimate import BYTES_PER_WEIGHT
from pcworker.equations.rules import RULES
from pcworker.kernels.fused.shape import fused_knows
from pcworker.trials.configuration import Configuration
from pcworker.trials.trial import Trial

TRAINING_SAMPLES = 60_000


@dataclass(frozen=True)
class KernelCosts:
    """What a trial costs with one kernel, in microseconds. The kernels are the ones in C, whose
    costs are nearly equal, and a stack of torch's operations."""

    per_weight: float
    """The cost of one weight in a weight update, which predicts with it and changes it."""
    per_unit: float
    """The cost of one hidden unit in an inference step, for a batch of 20."""
    calls: float
    """The cost of the calls for one hidden layer in an inference step, for a whole stack."""


@dataclass(frozen=True)
class Speeds:
    """What the parts of a shard's work cost, in microseconds of one core."""

    compiled: KernelCosts
    torch: KernelCosts
    backprop: float
    """A weight update of BP by torch.autograd with one hidden layer, its minibatch included. Calls
    cost more than arithmetic."""
    batch: float
    """Making a minibatch of 20 for a seed, for the kernels in C."""
    noise: float
    """Drawing the noise of condition C1 for one hidden unit, in a minibatch of 20."""
    epoch: float
    """Measuring a trial after an epoch."""
    shard: float
    """Giving out a shard, building its kernel, and committing it."""


TABLE = Speeds(
    compiled=KernelCosts(per_weight=0.00047, per_unit=0.0245, calls=0.0),
    torch=KernelCosts(per_weight=0.0018, per_unit=0.04, calls=16.0),
    backprop=400.0,
    batch=12.0,
    noise=0.1,
    epoch=7000.0,
    shard=100_000.0,
)
"""Measured on one core of two that both computed: AVX-512, float32, 784-32-..-10, batch 20."""
_LAYERS_SHARE = 0.13
"""The share by which each further hidden layer makes a weight update of BP longer."""
_EXPLODING_SHARE = 0.02
"""The share of its cost that a trial with gamma >= 5 and t >= 64 takes: its weights are not finite
after the first update, and it leaves its stack."""


def trial_cost(config: Configuration, speeds: Speeds = TABLE) -> float:
    """Microseconds per weight update of one trial among many; BP is trained by torch.autograd."""
    if not RULES[config.rule].infers:
        return speeds.backprop * (1 + _LAYERS_SHARE * (config.hidden_layers - 1))
    kernel = _kernel(config, speeds)
    widths = config.widths
    update = kernel.per_weight * sum(n * m for n, m in pairwise(widths))
    step = kernel.per_unit * sum(widths[1:-1]) * (config.batch_size / 20)
    exploding = (config.gamma or 0) >= 5 and config.last_step >= 64
    return (update + step * config.last_step) * (_EXPLODING_SHARE if exploding else 1.0)


def trial_updates(config: Configuration) -> int:
    """The number of weight updates of a trial."""
    return config.epochs * -(-TRAINING_SAMPLES // config.batch_size)


def shard_updates(trials: Sequence[Trial]) -> int:
    """The number of weight updates of all trials of a shard."""
    return len(trials) * trial_updates(trials[0].configuration)


def trial_seconds(config: Configuration, speeds: Speeds = TABLE) -> float:
    """The seconds of a shard that a trial takes for itself."""
    measuring = speeds.epoch * config.epochs
    return (trial_updates(config) * trial_cost(config, speeds) + measuring) / 1e6


def shared_seconds(config: Configuration, speeds: Speeds = TABLE, copies: int = 1) -> float:
    """The seconds of a shard that trials of one seed share, which have no noise.

    config  the trial with the most inference steps
    copies  how many copies of BP trials are trained beside them
    """
    kernel = _kernel(config, speeds)
    copy = trial_cost(config.twin(), speeds)
    if kernel is speeds.compiled:
        copy = kernel.per_weight * sum(n * m for n, m in pairwise(config.widths))
    calls = kernel.calls * config.hidden_layers * (1 + config.last_step)
    per_update = copy * copies + speeds.batch * (config.batch_size / 20) + calls
    measuring = speeds.epoch * config.epochs * copies
    return (trial_updates(config) * per_update + measuring + speeds.shard) / 1e6


def shard_seconds(trials: Sequence[Trial], speeds: Speeds = TABLE) -> float:
    """The seconds that a shard takes, including the twins that it trains beside its trials."""
    config = max((trial.configuration for trial in trials), key=lambda config: config.last_step)
    seeds = {trial.seed for trial in trials}
    copies = {trial.twin for trial in trials} - set(trials)
    more = (speeds.batch * (len(seeds) - 1)) * (config.batch_size / 20)
    if any(trial.configuration.noisy for trial in trials):
        drawn = speeds.noise * sum(config.widths[1:-1])
        more += drawn * len(seeds) * (config.batch_size / 20)
    return (
        sum(trial_seconds(trial.configuration, speeds) for trial in trials)
        + shared_seconds(config, speeds, len(copies))
        + trial_updates(config) * more / 1e6
    )


def shard_bytes(trials: Sequence[Trial]) -> int:
    """The bytes that the final weights of a shard take in the store, tables included."""
    weights = sum(n * m for trial in trials for n, m in pairwise(trial.configuration.widths))
    return weights * BYTES_PER_WEIGHT


def _kernel(config: Configuration, speeds: Speeds) -> KernelCosts:
    in_c = config.sums == "fixed" or fused_knows(config)
    return speeds.compiled if in_c else speeds.torch
