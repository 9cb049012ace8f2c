"""Describes the trainings of networks that are graphs to the service."""

from pathlib import Path
from typing import TYPE_CHECKING

from cluster.experiment import Experiment, Question, Trials
from jobs.any_network.configuration import NetworkConfiguration
from jobs.any_network.cost import network_bytes, network_packs, network_seconds, network_updates
from jobs.any_network.shown.page import network_sections
from jobs.any_network.shown.report import print_networks
from jobs.any_network.tables import NETWORK_TABLES
from pcworker.clock.memory import MEMORY
from pcworker.data.picture_sets import Pictures, find_pictures

if TYPE_CHECKING:
    import torch

    from pcworker.worker import Trains


def network_engine(pictures: Pictures | str, device: "torch.device") -> "Trains":
    """Makes the engine that trains networks on these pictures."""
    from jobs.any_network.engine import NetworkEngine

    return NetworkEngine(pictures, device)


def _find(folder: Path | None, trials: Trials) -> Pictures | str:
    """Finds the data set of the trials; without trials, MNIST."""
    (name,) = {trial.configuration.data for trial in trials} or {"mnist"}
    return find_pictures(name, folder)


def _directory(pictures: Pictures | str) -> str | None:
    """The directory that every node must see."""
    return pictures if isinstance(pictures, str) else None


def _name(pictures: Pictures | str) -> str:
    return _directory(pictures) or f"{len(pictures[0]):,} pictures, verified"


ANY_NETWORK = Experiment(
    name="network",
    prefix="network",
    package="jobs.any_network",
    configuration=NetworkConfiguration,
    pack=network_packs,
    seconds=network_seconds,
    updates=network_updates,
    stored_bytes=network_bytes,
    exact=False,  # each shard compares its rules with BP itself, beside them
    same_everywhere=False,
    environment=MEMORY,
    find_data=_find,
    data_name=_name,
    images_of=_directory,
    engine=network_engine,
    tables=NETWORK_TABLES,
    report=print_networks,
    sections=network_sections,
    question=Question(
        "networks", "SELECT network, rule, schedule, bool_and(exact) FROM {} GROUP BY ALL"
    ),
)
