"""A trial: a configuration and a seed, with an identity of its own."""

from dataclasses import Field, asdict, dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, Generic, Protocol, Self

from typing_extensions import TypeVar

from pcworker.errors import InputError
from pcworker.fingerprint import Fingerprints
from pcworker.trials.configuration import Configuration
from pcworker.trials.older import as_written

MAX_SEED = 2**63 - 1


class Configured(Protocol):
    """The part of any experiment's configuration that plans, commits and tables know."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    engine_version: ClassVar[int]
    """A part of every trial's identity. It is raised when the numbers of a trial change on
    purpose."""

    @property
    def network(self) -> str: ...

    @property
    def rule(self) -> str: ...

    @property
    def epochs(self) -> int:
        """The number of epochs. After each one a shard has a checkpoint and its twins a digest."""

    @property
    def sums(self) -> str:
        """ "fixed" if a trial has the same bits on every machine, otherwise "library"."""

    def __hash__(self) -> int: ...

    def twin(self) -> Self:
        """The BP configuration with which this one is compared."""


C = TypeVar("C", bound=Configured, default=Configuration, covariant=True)


@dataclass(frozen=True, slots=True)
class Trial(Generic[C]):
    """A configuration and a seed: one training, one row.

    Raises InputError for a seed that does not fit into int64.
    """

    configuration: C
    seed: int
    engine_version: int = 0
    """The engine that trains it, or has trained it: a stored trial may be an older engine's. 0 is
    replaced by today's."""

    _trial_id: str = field(default="", init=False, repr=False, compare=False)
    """The id, once somebody has asked for it. Until then it is empty."""

    def __post_init__(self) -> None:
        if not self.engine_version:
            object.__setattr__(self, "engine_version", self.configuration.engine_version)
        if type(self.seed) is not int or not 0 <= self.seed <= MAX_SEED:
            raise InputError(f"seed {self.seed}: must be a whole number from 0 to 2^63 - 1")

    @property
    def trial_id(self) -> str:
        """16 hex digits of the fingerprint of the configuration, the seed and the engine's
        version."""
        if not self._trial_id:
            every = _fingerprints(self.configuration, self.engine_version)
            object.__setattr__(self, "_trial_id", every.of(self.seed)[:16])
        return self._trial_id

    @property
    def twin(self) -> "Trial[C]":
        """The BP trial with which this one is compared. A BP trial is its own twin."""
        return Trial(_twin_of(self.configuration), self.seed, self.engine_version)

    @property
    def twin_id(self) -> str:
        """The id of its twin."""
        return self.twin.trial_id


@lru_cache(maxsize=4096)
def _twin_of(configuration: Any) -> Any:
    """The twin of a configuration. Many trials have the same one, so it is made once for them."""
    return configuration.twin()


@lru_cache(maxsize=4096)
def _fingerprints(configuration: Configured, engine_version: int) -> Fingerprints:
    """The fingerprints of a configuration's trials, by seed."""
    shared = as_written(asdict(configuration), engine_version)
    return Fingerprints({**shared, "engine_version": engine_version}, "seed")
