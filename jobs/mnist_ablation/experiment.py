"""Describes the ablations of Figure 3 to the service."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from cluster.experiment import Derived, Experiment, Panels, Question
from cluster.report.drawing import DrawPanel
from jobs.mnist_ablation.cost import shard_bytes, shard_seconds, shard_updates
from jobs.mnist_ablation.divergence import DIVERGENCE_READS, divergence_rows
from jobs.mnist_ablation.packs import packs
from jobs.mnist_ablation.page import ablation_sections
from jobs.mnist_ablation.published.comparison import compared_with_published
from jobs.mnist_ablation.report import print_report
from jobs.mnist_ablation.speed.calibration import calibrated
from jobs.mnist_ablation.tables import DivergenceRow
from pcworker.data.mnist import Digits, load_digits
from pcworker.row import Row
from pcworker.store.tables import SHARD_TABLES
from pcworker.trials.configuration import Configuration

if TYPE_CHECKING:
    import torch

    from pcworker.worker import Trains


def ablation_engine(digits: Digits, device: "torch.device") -> "Trains":
    """Makes the engine that trains on these digits."""
    from pcworker.training.engine import Engine

    return Engine(digits, device)


def _figures(tables: Mapping[str, pa.Table]) -> Mapping[str, bytes]:
    """Draws Figure 3, and returns its files."""
    from jobs.mnist_ablation.drawn.figure import draw_figure3  # Matplotlib is slow to import.

    drawn = draw_figure3(tables["divergence"].to_pylist())
    return {f"figure3.{kind}": data for kind, data in drawn.items()}


def _panels(rows: Sequence[Row]) -> Mapping[str, DrawPanel]:
    """The panels of Figure 3, for papers."""
    from jobs.mnist_ablation.drawn.paper import ablation_panels

    return ablation_panels(rows)


ABLATION = Experiment(
    name="ablation",
    prefix="mnist",
    package="jobs.mnist_ablation",
    configuration=Configuration,
    pack=packs,
    seconds=shard_seconds,
    calibrated=calibrated,
    updates=shard_updates,
    stored_bytes=shard_bytes,
    exact=True,
    same_everywhere=True,
    find_data=lambda directory, trials: load_digits(directory),
    data_name=lambda digits: "MNIST, verified",
    engine=ablation_engine,
    tables=SHARD_TABLES,
    derived={"divergence": Derived(DivergenceRow, divergence_rows, DIVERGENCE_READS)},
    published=compared_with_published,
    report=print_report,
    figures=_figures,
    panels=Panels("divergence", _panels),
    figure_files=("figure3.png", "figure3.svg"),
    sections=ablation_sections,
    question=Question("divergence", "SELECT network, panel, rule FROM {} WHERE exact"),
    next_lines=("make figure3    (the paper's whole sweep: 3 seeds, 64 epochs)",),
)
