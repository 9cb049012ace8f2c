"""Describes the timing runs of Table 4 to the service."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from cluster.experiment import Experiment, Panels, Question, Trials
from cluster.report.drawing import DrawPanel
from jobs.imagenet_timing.configuration import TimingConfiguration
from jobs.imagenet_timing.cost import timing_bytes, timing_packs, timing_seconds, timing_updates
from jobs.imagenet_timing.shown.page import timing_sections
from jobs.imagenet_timing.shown.report import print_timings
from jobs.imagenet_timing.tables import TIMING_TABLES
from pcworker.clock.memory import MEMORY
from pcworker.data.image_folder import look_over
from pcworker.networks.catalogue import NETWORKS, facts
from pcworker.row import Row

if TYPE_CHECKING:
    import torch

    from pcworker.worker import Trains


def timing_engine(directory: str | None, device: "torch.device") -> "Trains":
    """Makes the engine that times rules on the images of a directory, or on synthetic ones."""
    from jobs.imagenet_timing.engine import TimingEngine

    return TimingEngine(directory, device)


def _find(directory: Path | None, trials: Trials) -> str | None:
    """Checks the directory of images, and returns it. None stands for synthetic images.

    The directory may have as many classes as the smallest number of outputs of the trials'
    networks. Without trials, the limit is the largest number of outputs of any known network.
    Raises DataError for a directory that is not usable.
    """
    if directory is None:
        return None
    asked = {trial.configuration.network for trial in trials}
    known = max(network.classes for network in NETWORKS.values())
    look_over(directory, min((facts(name).classes for name in asked), default=known))
    return str(directory.resolve())


def _images_of(directory: str | None) -> str | None:
    """The directory that every node must see."""
    return directory


def _name(directory: str | None) -> str:
    return directory or "synthetic images"


def _figures(tables: Mapping[str, pa.Table]) -> Mapping[str, bytes]:
    """Draws Table 4 as a figure, and returns its files."""
    from jobs.imagenet_timing.shown.figure import draw_table4  # matplotlib takes a while to import

    drawn = draw_table4(tables["timings"].to_pylist())
    return {f"table4.{kind}": data for kind, data in drawn.items()}


def _panels(rows: Sequence[Row]) -> Mapping[str, DrawPanel]:
    """The panels of the figure, for papers."""
    from jobs.imagenet_timing.shown.figure import timing_panels

    return timing_panels(rows)


TIMING = Experiment(
    name="timing",
    prefix="imagenet",
    package="jobs.imagenet_timing",
    configuration=TimingConfiguration,
    pack=timing_packs,
    seconds=timing_seconds,
    updates=timing_updates,
    stored_bytes=timing_bytes,
    exact=False,
    same_everywhere=False,
    environment=MEMORY,
    find_data=_find,
    data_name=_name,
    images_of=_images_of,
    engine=timing_engine,
    tables=TIMING_TABLES,
    report=print_timings,
    figures=_figures,
    panels=Panels("timings", _panels),
    figure_files=("table4.png", "table4.svg"),
    sections=timing_sections,
    question=Question("timings", "SELECT network, rule, ratio_to_bp_median FROM {} WHERE exact"),
)
