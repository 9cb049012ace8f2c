"""The registry of experiments. An experiment is a folder beside this file, and an entry below."""

from jobs.any_network.experiment import ANY_NETWORK
from jobs.detection_rate.experiment import DETECTION
from jobs.imagenet_timing.experiment import TIMING
from jobs.mnist_ablation.experiment import ABLATION

_ALL = (ABLATION, TIMING, DETECTION, ANY_NETWORK)
EXPERIMENTS = {experiment.name: experiment for experiment in _ALL}
DEFAULT_EXPERIMENT = ABLATION.name
"""The experiment that a command takes if the user names none."""
