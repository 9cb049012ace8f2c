"""The seam between the service and an experiment: all that the service must know of one.

An experiment is a folder under `jobs/` that fills one `Experiment`. Nothing below `jobs/` names an
experiment: `jobs.experiments` lists them, and commands hand that list in.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcworker.store.result import Tables
from pcworker.trials.trial import Trial

if TYPE_CHECKING:
    import pyarrow as pa
    import torch
    from rich.console import Console

    from cluster.results.collect import Collected
    from cluster.sweeps.plan import Plan
    from pcworker.actor import Trains
    from pcworker.store.commit import Commit

Trials = Sequence[Trial[Any]]
Seconds = Callable[[Trials], float]
"""About how many seconds a shard of these trials takes."""


@dataclass(frozen=True)
class Derived:
    """A table that the collector computes from what the shards have written."""

    schema: "pa.Schema"
    rows: Callable[
        [Sequence["Plan"], Mapping[str, "pa.Table"], Sequence["Commit"]],
        Sequence[Mapping[str, Any]],
    ]
    """From the plans, the committed tables and the commits of all sweeps that are collected."""


@dataclass(frozen=True)
class Question:
    """What a user is shown as a first query of the results."""

    table: str
    query: str
    """SQL, with {} in the place of the table."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One kind of sweep."""

    name: str
    """It stands in every stored plan."""
    prefix: str
    """The first part of a sweep's name, if the user gives none."""

    # what planning knows
    configuration: type[Any]
    """The class of its trials' configurations."""
    pack: Callable[[Trials], Sequence[Trials]]
    """Packs trials, in the order of their ids, into shards."""
    seconds: Seconds
    """Estimates a shard's time by a fixed table, so that a plan depends on no machine."""
    calibrated: Callable[[int], Seconds | None] | None = None
    """Measures this machine while that many workers compute; None: there is only the table."""
    updates: Callable[[Trials], int]
    """Counts the weight updates that a shard makes."""
    stored_bytes: Callable[[Trials], float]
    """Bounds the bytes that the weights of a shard take in the store, tables included."""
    exact: bool
    """Whether its results rest on exactness, so that every worker tries its device first."""
    same_everywhere: bool
    """Whether a trial has one result wherever it runs, so that one copy will do."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """The variables with which its workers' processes start."""

    # its data
    find_data: Callable[[Path | None, Trials], Any]
    """Finds what the engines are given, from the directory that the user named (or None) and the
    trials that are to run (none, if only the data are looked at). DataError if there is none."""
    data_name: Callable[[Any], str]
    """Says in words what was found."""
    images_of: Callable[[Any], str | None] = lambda data: None
    """Names a directory that every node must see, if the data is one."""

    # what a worker does
    engine: Callable[[Any, "torch.device"], "Trains"]
    """Makes an engine for the data on a device. It imports torch inside: planning needs none."""
    tables: Tables
    """The tables that its shards write."""

    # what the collector does
    columns: Callable[[Any], Mapping[str, object]]
    """Gives the columns that say what a trial was to be, for a trial whose shard has failed."""
    derived: Mapping[str, Derived] = field(default_factory=dict)
    report: Callable[["Console", "Collected"], None]
    """Prints the tables that a person reads."""
    figures: Callable[[Mapping[str, "pa.Table"]], Mapping[str, bytes]] = lambda tables: {}
    """Draws from the collected tables: the bytes of each of the files `figure_files`, or none."""
    figure_files: tuple[str, ...] = ()
    question: Question
    next_lines: tuple[str, ...] = ()
    """Further lines of advice after a sweep."""


Experiments = Mapping[str, Experiment]
"""By name: those that a command knows."""
