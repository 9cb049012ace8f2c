"""Works out how a sweep stands. It is a pure function of the plan and of what the store holds.

Only the commits are certain. What drivers say of themselves is a hint that may be some seconds old.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from sys import intern
from typing import Literal, Self

from cluster.driver.record.signs import Driver
from cluster.sweeps.plan import Plan
from pcworker.store.commit import Commit
from pcworker.store.tables import FailureRow

ShardState = Literal["done", "running", "failed", "damaged", "missing"]
"""done: the shard is committed. running: a living driver says that it runs. failed: the shard is
quarantined and nobody works on it. damaged: its commit cannot be read. missing: none of these."""


@dataclass(frozen=True, slots=True)
class DoneShard:
    """The facts of a commit on which the status depends. The commit itself would take ten times the
    memory."""

    updates: int
    wall_seconds: float
    hostname: str
    device: str

    @classmethod
    def of(cls, commit: Commit) -> Self:
        """The facts of this commit."""
        where = intern(commit.where.hostname), intern(commit.where.device)
        return cls(commit.updates, commit.wall_seconds, *where)


@dataclass(frozen=True)
class StoredSweep:
    """Everything in the store of a sweep that its status depends on."""

    commits: Mapping[str, DoneShard]
    """The shards that have a commit, by shard id."""
    damaged_shards: frozenset[str]
    """The ids of the shards whose commit cannot be read."""
    damaged: tuple[str, ...]
    """A line for each damaged object: its place, and what is wrong with it."""
    failures: Sequence[FailureRow]
    """The rows of the table `failures`."""
    drivers: Sequence[Driver]


@dataclass(frozen=True)
class RunningShard:
    """A shard that is running."""

    shard_id: str
    share: float
    """The share of its work that is done, from 0 to 1."""
    hostname: str
    """The host of the worker that runs it."""


@dataclass(frozen=True)
class Machine:
    """The workers on one host that have the same device."""

    hostname: str
    device: str
    workers: int
    """The number of workers of living drivers."""
    committed: int
    """The number of shards that were committed from there."""


@dataclass(frozen=True)
class FirstError:
    """The first failed attempt of the shards that have failed; if none has, of all shards."""

    shard_id: str
    kind: str
    error: str
    key: str
    """The key of the attempt's record, which holds the traceback."""


@dataclass(frozen=True)
class Drivers:
    """The drivers that have worked on a sweep."""

    alive: tuple[str, ...]
    """The host of each driver that is alive."""
    ended: int
    """The number of drivers that have ended in order."""
    silent: int
    """The number of drivers that are neither alive nor ended. Most likely they were killed."""


@dataclass(frozen=True)
class Status:
    """The state of a sweep at one moment."""

    sweep: str
    """The sweep's name."""
    trials: int
    """The number of its trials."""
    states: Mapping[str, ShardState]
    """The state of each shard, by shard id."""
    running: tuple[RunningShard, ...]
    failures: Mapping[str, int]
    """The number of failed attempts, by kind of failure."""
    first_error: FirstError | None
    share: float
    """The share of the sweep's work that is done, from 0 to 1, by the cost table."""
    elapsed_seconds: float | None
    """Seconds since the first of the living drivers has started; None if none is alive."""
    updates_per_second: float | None
    """Weight updates per second of all workers that are at work; None if it is not known yet."""
    eta_seconds: float | None
    """Seconds until everything is done; None without workers, or if nothing is left to do."""
    calibrated: bool
    """True if the ETA goes by the time that committed shards took; False if it goes by the cost
    table only."""
    drivers: Drivers
    machines: tuple[Machine, ...]
    damaged: tuple[str, ...]
    """A line for each damaged object: its place, and what is wrong with it."""

    def count(self, state: ShardState) -> int:
        """The number of shards in this state."""
        return sum(found == state for found in self.states.values())

    @property
    def done(self) -> bool:
        """True if every shard is committed."""
        return self.count("done") == len(self.states)

    @property
    def broken(self) -> bool:
        """True if there are shards that nobody will finish unless the user does something."""
        return self.count("failed") + self.count("damaged") > 0

    @property
    def over(self) -> bool:
        """True if there is nothing left to wait for: all is done, or no driver is alive."""
        return self.done or not self.drivers.alive


def status_of(plan: Plan, found: StoredSweep, now: float) -> Status:
    """Works out how the sweep stands at the time `now`, in seconds since the epoch."""
    alive = [driver for driver in found.drivers if driver.alive(now)]
    ended = sum(driver.ended for driver in found.drivers)
    states = _states(plan, found, alive)
    return Status(
        sweep=plan.name,
        trials=len(plan.trials),
        states=states,
        running=tuple(
            RunningShard(shard_id, at.share, at.hostname)
            for driver in alive
            for shard_id, at in sorted(driver.running.items(), key=lambda item: item[0])
            if states.get(shard_id) == "running"
        ),
        failures=Counter(row.kind for row in found.failures),
        first_error=_first_error(plan, found.failures, states),
        share=_share(plan, found.commits, states, alive),
        elapsed_seconds=max((now - driver.started for driver in alive), default=None),
        updates_per_second=_updates_per_second(found.commits, alive),
        eta_seconds=_eta_seconds(plan, found.commits, states, alive),
        calibrated=bool(found.commits),
        drivers=Drivers(
            alive=tuple(driver.hostname for driver in alive),
            ended=ended,
            silent=len(found.drivers) - len(alive) - ended,
        ),
        machines=_machines(found.commits, alive),
        damaged=found.damaged,
    )


def _states(plan: Plan, found: StoredSweep, alive: Sequence[Driver]) -> dict[str, ShardState]:
    running = {shard_id for driver in alive for shard_id in driver.running}
    # A living driver tries again the shards that were quarantined before it started.
    since = min((_iso(driver.started) for driver in alive), default="")
    quarantined = {row.shard_id for row in found.failures if row.quarantined and row.time >= since}

    def state(shard_id: str) -> ShardState:
        if shard_id in found.commits:
            return "done"
        if shard_id in found.damaged_shards:
            return "damaged"
        if shard_id in running:
            return "running"
        return "failed" if shard_id in quarantined else "missing"

    return {shard.shard_id: state(shard.shard_id) for shard in plan.shards}


def _iso(seconds: float) -> str:
    """The time in the form that the records of failures have."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _first_error(
    plan: Plan, failures: Sequence[FailureRow], states: Mapping[str, ShardState]
) -> FirstError | None:
    if not failures:
        return None
    row = min(failures, key=lambda row: (states.get(row.shard_id) != "failed", row.time))
    key = plan.keys.failure(row.shard_id, row.attempt_id)
    return FirstError(row.shard_id, row.kind, row.error, key)


def _share(
    plan: Plan,
    commits: Mapping[str, DoneShard],
    states: Mapping[str, ShardState],
    alive: Sequence[Driver],
) -> float:
    """The share of the work that is committed, or done in shards that run."""
    shares = dict.fromkeys(commits, 1.0) | {
        shard: at.share
        for driver in alive
        for shard, at in driver.running.items()
        if states.get(shard) == "running"
    }
    done = sum(plan.seconds[shard] * share for shard, share in shares.items())
    return done / sum(plan.seconds.values())


def _updates_per_second(commits: Mapping[str, DoneShard], alive: Sequence[Driver]) -> float | None:
    """Weight updates per second: the mean rate of a shard so far, times the number of shards that
    are at work. None if nothing is committed yet, or nothing runs."""
    seconds = sum(commit.wall_seconds for commit in commits.values())
    at_work = sum(len(driver.running) for driver in alive)
    if not (seconds and at_work):
        return None
    return at_work * sum(commit.updates for commit in commits.values()) / seconds


def _eta_seconds(
    plan: Plan,
    commits: Mapping[str, DoneShard],
    states: Mapping[str, ShardState],
    alive: Sequence[Driver],
) -> float | None:
    """Seconds until the living workers have done every running and missing shard. It is never less
    than the longest of these shards takes. None without workers, or if nothing is left to do."""
    costs = plan.seconds
    shares = {shard: at.share for driver in alive for shard, at in driver.running.items()}
    left = [
        cost * (1 - shares.get(shard_id, 0.0))
        for shard_id, cost in costs.items()
        if states[shard_id] in ("running", "missing")
    ]
    places = sum(worker.places for driver in alive for worker in driver.workers)
    if not (left and places):
        return None
    expected = sum(costs[shard_id] for shard_id in commits)
    taken = sum(commit.wall_seconds for commit in commits.values())
    pace = taken / expected if commits else 1.0
    return pace * max(sum(left) / places, max(left))


def _machines(commits: Mapping[str, DoneShard], alive: Sequence[Driver]) -> tuple[Machine, ...]:
    workers = Counter((w.hostname, w.device) for driver in alive for w in driver.workers)
    committed = Counter((commit.hostname, commit.device) for commit in commits.values())
    return tuple(
        Machine(hostname, device, workers[hostname, device], committed[hostname, device])
        for hostname, device in sorted(workers.keys() | committed.keys())
    )
