"""The experiments that there are: an experiment is a folder beside this file, and a line here."""

from jobs.detection_rate.experiment import DETECTION
from jobs.imagenet_timing.experiment import TIMING
from jobs.mnist_ablation.experiment import ABLATION

EXPERIMENTS = {experiment.name: experiment for experiment in (ABLATION, TIMING, DETECTION)}
