"""Estimates what a detection shard costs, by fixed speeds of one AVX-512 core.

The speeds are fixed so that a plan is the same on every machine.
"""

from collections.abc import Sequence

from jobs.detection_rate.configuration import T_D, DetectionConfiguration
from pcworker.trials.trial import Trial

_UPDATE_S = 600e-6
"""Seconds of one weight update of BP."""
_STEP_S = 40e-6
"""Seconds of one inference step of one layer, for one minibatch and one t_d."""
_COUNT_S = 1.5e-9
"""Seconds of counting one error, for one t_d and one tolerance."""


def detection_seconds(trials: Sequence[Trial[DetectionConfiguration]]) -> float:
    """The seconds that a shard takes."""
    config = trials[0].configuration
    steps = config.horizon_list[-1] + 1
    looks = len(config.stage_list) * config.minibatches * steps * len(T_D)
    hidden = sum(config.training.widths[:-1]) * config.batch_size
    counting = _COUNT_S * hidden * len(config.tolerance_list) * 10
    return detection_updates(trials) * _UPDATE_S + looks * (_STEP_S * config.l_max + counting)


def detection_updates(trials: Sequence[Trial[DetectionConfiguration]]) -> int:
    """The number of weight updates that a shard makes."""
    return trials[0].configuration.stage_list[-1]


def detection_packs(
    trials: Sequence[Trial[DetectionConfiguration]],
) -> list[list[Trial[DetectionConfiguration]]]:
    """Makes one shard of each trial."""
    return [[trial] for trial in trials]
