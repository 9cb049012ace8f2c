"""The plan of a sweep: its trials, packed into shards. A plan is a pure function of the trial set.

`stored` says what becomes of a plan once it is in a store.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic

from cluster.experiment import Experiment
from cluster.sweeps.sweep import Cell, Sweep, trial_set_fingerprint
from pcworker.fingerprint import fingerprint
from pcworker.store.keys import SweepKeys
from pcworker.trials.trial import C, Trial


@dataclass(frozen=True)
class Shard(Generic[C]):
    """The trials that one worker runs together: the unit of work, of retry and of commit."""

    shard_id: str
    trials: tuple[Trial[C], ...]


@dataclass(frozen=True)
class Plan(Generic[C]):
    """A sweep with a name, packed into shards."""

    experiment: Experiment
    name: str
    cells: tuple[Cell[C], ...]
    seeds: tuple[int, ...]
    shards: tuple[Shard[C], ...]
    """The shards, with the most expensive one first."""

    @cached_property
    def trials(self) -> tuple[Trial[C], ...]:
        """All trials, in the order of their shards."""
        return tuple(trial for shard in self.shards for trial in shard.trials)

    @cached_property
    def trial_set(self) -> str:
        """The fingerprint of the set of its trials."""
        return trial_set_fingerprint(self.trials)

    @cached_property
    def seconds(self) -> Mapping[str, float]:
        """The seconds that each shard takes by the experiment's fixed cost table, by shard id."""
        return {shard.shard_id: self.experiment.seconds(shard.trials) for shard in self.shards}

    @property
    def engine_version(self) -> int:
        """The version of the engine that trains its trials, or has trained them."""
        return self.shards[0].trials[0].engine_version

    @property
    def is_older(self) -> bool:
        """True if an older engine has trained its trials, so that it cannot be continued."""
        todays: int = self.experiment.configuration.engine_version
        return self.engine_version < todays

    @property
    def sums(self) -> str:
        """The sums of its trials."""
        return self.shards[0].trials[0].configuration.sums

    @property
    def same_on_every_device(self) -> bool:
        """True if its trials have the same results on a CPU and on a GPU, also where several shards
        are trained at the same time."""
        return self.sums == "fixed" and self.experiment.same_everywhere

    def trial_ids(self, cell: Cell[C]) -> list[str]:
        """The ids of a cell's trials, one for each seed."""
        configuration, version = cell.configuration, self.engine_version
        return [Trial(configuration, seed, version).trial_id for seed in self.seeds]

    @cached_property
    def keys(self) -> SweepKeys:
        """The keys under which everything of this sweep is stored."""
        return SweepKeys(self.name)


def make_plan(experiment: Experiment, sweep: Sweep[C], name: str) -> Plan[C]:
    """Packs the trials of `sweep` into shards. The result depends on the set of trials, not on
    their order."""
    trials = sorted(sweep.trials, key=_id)
    packs = sorted(
        experiment.pack(trials), key=lambda pack: (-experiment.seconds(pack), pack[0].trial_id)
    )
    shards = (Shard(_shard_id(place, pack), tuple(pack)) for place, pack in enumerate(packs))
    return Plan(experiment, name, sweep.cells, sweep.seeds, tuple(shards))


def _id(trial: Trial[Any]) -> str:
    return trial.trial_id


def _shard_id(place: int, pack: Sequence[Trial[Any]]) -> str:
    return f"{place:04d}-{fingerprint([trial.trial_id for trial in pack])[:8]}"
