"""Decides what to say, and when to give up, while a cluster has no room for some workers."""

from collections.abc import Sequence
from dataclasses import dataclass

from cluster.driver.events import Trouble, Waiting
from pcworker.errors import InputError
from pcworker.text import counted

STARVED_S = 1800.0
"""If there is no worker for so long, the driver gives up. Everything committed is kept."""
REFUSED_S = 30.0
"""If the autoscaler says for so long that it can start no node for a worker, it is believed."""


@dataclass(frozen=True)
class RoomSeen:
    """What was seen of a cluster at one moment, for one kind of workers."""

    time: float
    """The time on the monotonic clock."""
    wanted: int
    """The number of workers that there should be."""
    room: int
    """The number of workers that the cluster has room for, with what others use."""
    refused: bool = False
    """True if the autoscaler says that it can start no node for such a worker."""


class Shortage:
    """The lack of room for one kind of workers. It says everything once, until there is room."""

    def __init__(self, each: str) -> None:
        """`each` says what a worker needs, in words."""
        self._each = each
        self.missing = 0
        """The number of workers without room."""
        self._room = 0
        self._refused_since: float | None = None
        self._told_refusal = False

    def see(self, look: RoomSeen) -> Sequence[Waiting | Trouble]:
        """Takes in a look at the cluster. Returns what there is to tell."""
        before, self.missing = self.missing, max(0, look.wanted - look.room)
        self._room = look.room
        if not (self.missing and look.refused):
            self._refused_since = None
        elif self._refused_since is None:
            self._refused_since = look.time
        told: list[Waiting | Trouble] = []
        if self.missing and not before:
            self._told_refusal = False
            told.append(Waiting(self.missing, self._each, look.room, STARVED_S))
        if look.room and self._is_refused(look.time) and not self._told_refusal:
            self._told_refusal = True
            told.append(Trouble(f"{self._refusal}; the sweep goes on with those that fit"))
        return told

    def require_hope(self, time: float, last_ready: float) -> None:
        """InputError if no worker can be hoped for. It is asked while there is no worker.

        last_ready  the time when there was a worker last, or when the pool was made
        """
        if self._is_refused(time) and not self._room:  # Otherwise others use the room, for a while.
            raise InputError(
                f"{self._refusal}; lower --cpus-per-worker or --gpus-per-worker, allow the cluster "
                "larger or more nodes, or wait until other jobs have ended"
            )
        if time - last_ready > STARVED_S:
            raise InputError(
                f"for {STARVED_S / 60:.0f} minutes the cluster had no room for a worker of "
                f"{self._each}; what is committed is kept: when there is room, the same command "
                "goes on from there"
            )

    @property
    def _refusal(self) -> str:
        return (
            f"{counted(self.missing, 'worker')} of {self._each} cannot fit: Ray's autoscaler can "
            "start no node for such a worker"
        )

    def _is_refused(self, time: float) -> bool:
        return self._refused_since is not None and time - self._refused_since >= REFUSED_S
