"""The kinds of sweeps, by what planning must know of each; all else of a plan is common to them.

What a worker does for an experiment is `pcworker.actor.Work.make_engine`; what is printed and drawn
of it, `cluster.publish`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cluster.cost import shard_bytes, shard_seconds, shard_updates
from cluster.detection_cost import detection_packs, detection_seconds, detection_updates
from cluster.packs import packs
from cluster.timing_cost import timing_bytes, timing_packs, timing_seconds, timing_updates
from pcworker.config import Configuration, Trial, configuration_from
from pcworker.detection_config import DetectionConfiguration, detection_configuration_from
from pcworker.timing_config import TimingConfiguration, timing_configuration_from

Trials = Sequence[Trial[Any]]


@dataclass(frozen=True)
class Experiment:
    """One kind of sweep."""

    name: str
    configuration_from: Callable[[Mapping[str, Any]], Any]
    """From a trial's entry in a stored plan."""
    pack: Callable[[Trials], Sequence[Trials]]
    """Trials, in the order of their ids, to shards."""
    seconds: Callable[..., float]
    """About how long a shard takes, by a fixed table; of one that has them by a machine's measured
    speeds, if these are given, too."""
    has_speeds: bool
    """Whether `seconds` takes the speeds of `cluster.calibration`."""
    updates: Callable[[Trials], int]
    """Weight updates that a shard makes."""
    stored_bytes: Callable[[Trials], float]
    """That the weights of a shard take in the store, at most, tables included; all else is little
    beside them."""
    stacks: bool
    """Whether its trials are trained in stacks."""
    same_everywhere: bool
    """Whether a trial has one result wherever it runs: of two sweeps' copies one will do, then."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables with which its workers' processes start."""


MEMORY = {
    "GLIBC_TUNABLES": "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=18446744073709551615:"
    "glibc.malloc.arena_max=1",
    "THP_MEM_ALLOC_ENABLE": "1",
}
"""A process keeps what it frees, to use it again, and torch asks for huge pages.

As it comes, glibc gives large blocks back to the kernel and takes them anew: 55,000 page faults an
update of AlexNet (batch 2, 2 cores of a virtual machine), by which BP took 196 ms and not 122, and
percentiles of ratios went from 0.8 to 2.1. Kept in small pages, Z-IL's ratio to BP was 1.09 in one
process and 1.01 in another, by where its blocks happened to lie; in huge ones, 1.01."""


ABLATION = Experiment(
    name=Configuration.experiment,
    configuration_from=configuration_from,
    pack=packs,
    seconds=shard_seconds,
    has_speeds=True,
    updates=shard_updates,
    stored_bytes=shard_bytes,
    stacks=True,
    same_everywhere=True,
)
TIMING = Experiment(
    name=TimingConfiguration.experiment,
    configuration_from=timing_configuration_from,
    pack=timing_packs,
    seconds=timing_seconds,
    has_speeds=False,
    updates=timing_updates,
    stored_bytes=timing_bytes,
    stacks=False,
    same_everywhere=False,
    environment=MEMORY,
)
DETECTION = Experiment(
    name=DetectionConfiguration.experiment,
    configuration_from=detection_configuration_from,
    pack=detection_packs,
    seconds=detection_seconds,
    has_speeds=False,
    updates=detection_updates,
    stored_bytes=lambda trials: 0,  # counts alone are kept
    stacks=False,
    same_everywhere=True,
)
EXPERIMENTS = {experiment.name: experiment for experiment in (ABLATION, TIMING, DETECTION)}
