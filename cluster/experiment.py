"""The seam between the service and an experiment: everything that the service needs to know of one.

An experiment is a folder under `jobs/` that fills in one `Experiment`. Nothing below `jobs/`
depends on a particular experiment: `jobs.experiments` lists them all, and the commands pass that
list down.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcworker.store.result import Tables
from pcworker.trials.trial import Trial

if TYPE_CHECKING:
    import pyarrow as pa
    import torch
    from rich.console import Console

    from cluster.report.drawing import DrawPanel
    from cluster.report.page.parts import Ask, Section
    from cluster.results.audit import Published
    from cluster.results.collect import Collected
    from cluster.results.committed import Portion
    from cluster.sweeps.plan import Plan
    from pcworker.row import Row
    from pcworker.worker import Trains

Trials = Sequence[Trial[Any]]
Seconds = Callable[[Trials], float]
"""A function that estimates how many seconds a shard of these trials takes."""


@dataclass(frozen=True)
class Derived:
    """A table that the collector computes from the tables that the shards have written."""

    row_type: type
    """The dataclass of its rows: see `pcworker.row`."""
    rows: Callable[[Sequence["Plan"], Iterable["Portion"]], Iterable[Any]]
    """Makes the rows from the plans of all sweeps that are collected together, and from what their
    shards have committed. Each portion holds all rows of its trials, and only one is in memory."""
    reads: Mapping[str, Sequence[str]]
    """The tables from which it is computed, and the columns of them."""


@dataclass(frozen=True)
class Question:
    """The first query of the results that a user is shown."""

    table: str
    """The table that the query reads."""
    query: str
    """The SQL text, with {} in the place of the table's name."""


@dataclass(frozen=True)
class Panels:
    """The figures of an experiment for papers."""

    table: str
    """The table from which they are drawn."""
    find: Callable[[Sequence["Row"]], Mapping[str, "DrawPanel"]]
    """Finds the panels for which the table's rows are enough, by name."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One kind of sweep."""

    name: str
    """The name that every stored plan holds."""
    prefix: str
    """The first part of a sweep's name, if the user gives no name."""
    package: str = ""
    """The package whose README.md explains its own tables. "": it has none."""

    # what planning knows
    configuration: type[Any]
    """The class of its trials' configurations."""
    pack: Callable[[Trials], Sequence[Trials]]
    """Packs trials into shards. It receives the trials in the order of their ids."""
    seconds: Seconds
    """Estimates a shard's time by a fixed table, so that a plan does not depend on the machine."""
    calibrated: Callable[[int, float], Seconds | None] | None = None
    """Measures this machine's speed while the given number of workers compute, and returns an
    estimator that uses it (None if nothing could be measured). The second argument is the seconds
    that the sweep takes by the table, of which measuring should be a small part. The field is None
    if the experiment has only its fixed table."""
    updates: Callable[[Trials], int]
    """Counts the weight updates that a shard makes."""
    stored_bytes: Callable[[Trials], float]
    """Returns an upper bound of the bytes that a shard's weights take in the store, including the
    collected tables."""
    exact: bool
    """True if the results rely on exactness: then every worker first tests its device."""
    same_everywhere: bool
    """True if a trial has the same result wherever it runs, so that one copy of it is enough."""
    fixed_on_gpus: bool = True
    """True if its trials in the fixed sums can be trained on GPUs."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables with which the workers' processes start."""

    # the data it needs
    find_data: Callable[[Path | None, Trials], Any]
    """Finds the data that the engines receive. Its arguments are the directory that the user named
    (or None) and the trials that will run (none, if the data are only checked). It raises DataError
    if the data cannot be found."""
    data_name: Callable[[Any], str]
    """Describes in words the data that were found."""
    images_of: Callable[[Any], str | None] = lambda data: None
    """Returns the directory that every node must see, if the data are a directory; else None."""

    # what a worker does
    engine: Callable[[Any, "torch.device"], "Trains"]
    """Makes an engine for the data on a device. It imports torch inside the function, because
    planning must not import torch."""
    tables: Tables
    """The tables that the shards write."""

    # what the collector does
    derived: Mapping[str, Derived] = field(default_factory=dict)
    published: Callable[[Iterable["Portion"]], "Published"] | None = None
    """Compares the committed trials with published digests. None: none are published."""
    report: Callable[["Console", "Collected"], None]
    """Prints the results as tables for a person to read."""
    figures: Callable[[Mapping[str, "pa.Table"]], Mapping[str, bytes]] = lambda tables: {}
    """Draws the figures from the collected tables. It returns the bytes of each file by its name,
    which is one of `figure_files`, or nothing if there is nothing to draw."""
    figure_files: tuple[str, ...] = ()
    """The names of the files that `figures` may write."""
    panels: Panels | None = None
    """The figures for papers. None: it has none."""
    sections: Callable[["Ask"], Sequence["Section"]] = lambda ask: ()
    """Makes the experiment's own sections of the report page, from the answers to its queries."""
    question: Question
    next_lines: tuple[str, ...] = ()
    """More lines of advice, printed after a sweep."""

    def __post_init__(self) -> None:
        """Raises ValueError if two of its tables have the same name, or one has a reserved name."""
        names = ["failures", *self.tables.row_types, *self.derived]
        if len(set(names)) < len(names):
            raise ValueError(f"experiment {self.name}: the tables {names} need different names")


Experiments = Mapping[str, Experiment]
"""The experiments that a command knows, by name."""
