"""Keeps the books of a pool: which worker has which attempts, and where there is a free place."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from cluster.driver.events import WorkerInfo
from cluster.driver.pools.pool import Progress, Vacancy


@dataclass
class Try:
    """An attempt that runs."""

    attempt_id: str
    alone: bool
    """True if nothing else may run beside it on its worker."""
    progress: Progress = field(default_factory=Progress)
    """What its worker said of it when it answered last."""


@dataclass(eq=False)
class Hand:
    """A worker that is ready."""

    actor: Any
    info: WorkerInfo
    trouble: str | None
    """What it says when it joins."""
    slow: bool = False
    """True for a CPU worker beside GPU workers."""
    runs: list[Try] = field(default_factory=list)
    asked: Any = None
    """The reference to its next answer. None: it has not been asked since its last answer."""
    leaving: bool = False
    """True if the worker gets no more work, because it was halted, or because an attempt has failed
    here: whatever went wrong may have left its process in a bad state."""

    @property
    def vacant(self) -> bool:
        """True if it can take another shard."""
        full = len(self.runs) >= self.info.places or any(run.alone for run in self.runs)
        return not full and not self.leaving


def vacancies_of(hands: Iterable[Hand]) -> list[Vacancy]:
    """Returns the workers with a free place: CPU workers beside GPU workers come last, and workers
    with little to do come first."""
    vacant = [hand for hand in hands if hand.vacant]
    vacant.sort(key=lambda hand: (hand.slow, len(hand.runs)))
    return [Vacancy(hand.info, not hand.runs, hand.slow) for hand in vacant]


def to_end(hands: Collection[Hand], to_start: int) -> list[Hand]:
    """Returns the idle workers that are too many for so many shards that are still to be started.
    Workers beside a busy one are kept rather than those on other nodes, so that nodes get free."""
    busy = {hand.info.node_id for hand in hands if hand.runs}
    idle = [hand for hand in hands if not hand.runs]
    idle.sort(key=lambda hand: hand.info.node_id not in busy)
    return idle[max(0, to_start) :]
