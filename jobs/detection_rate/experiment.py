"""Describes the detection runs of Table 3 to the service."""

from typing import TYPE_CHECKING

from cluster.experiment import Experiment, Question, Trials
from jobs.detection_rate.configuration import DetectionConfiguration
from jobs.detection_rate.cost import detection_packs, detection_seconds, detection_updates
from jobs.detection_rate.shown.page import detection_sections
from jobs.detection_rate.shown.report import print_detection
from jobs.detection_rate.tables import DETECTION_TABLES
from pcworker.data.mnist import Digits, load_digits

if TYPE_CHECKING:
    import torch

    from pcworker.worker import Trains


def detection_engine(digits: Digits, device: "torch.device") -> "Trains":
    """Makes the engine that watches phi on these digits."""
    from jobs.detection_rate.engine import DetectionEngine

    return DetectionEngine(digits, device)


def _no_bytes(trials: Trials) -> float:
    """Returns 0, because a shard stores counts and no weights."""
    return 0.0


DETECTION = Experiment(
    name="detection",
    prefix="detection",
    package="jobs.detection_rate",
    configuration=DetectionConfiguration,
    pack=detection_packs,
    seconds=detection_seconds,
    updates=detection_updates,
    stored_bytes=_no_bytes,
    exact=False,
    same_everywhere=True,
    fixed_on_gpus=False,
    find_data=lambda directory, trials: load_digits(directory),
    data_name=lambda digits: "MNIST, verified",
    engine=detection_engine,
    tables=DETECTION_TABLES,
    report=print_detection,
    sections=detection_sections,
    question=Question(
        "detection",
        "SELECT activation, stage, t_d, sum(only_at_l) / sum(pairs) FROM {} "
        "WHERE tolerance = 0 AND horizon = 16 GROUP BY ALL ORDER BY ALL",
    ),
)
