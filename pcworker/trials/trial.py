"""A trial: a configuration and a seed, with an identity of its own."""

from dataclasses import Field, asdict, dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, ClassVar, Generic, Protocol, Self

from typing_extensions import TypeVar

from pcworker.errors import InputError
from pcworker.fingerprint import fingerprint
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

    def twin(self) -> Self:
        """The BP configuration with which this one is compared."""


C = TypeVar("C", bound=Configured, default=Configuration, covariant=True)


@dataclass(frozen=True)
class Trial(Generic[C]):
    """A configuration and a seed: one training, one row.

    Raises InputError for a seed that does not fit into int64.
    """

    configuration: C
    seed: int
    engine_version: int = 0
    """The engine that trains it, or has trained it: a stored trial may be an older engine's. 0 is
    replaced by today's."""

    def __post_init__(self) -> None:
        if not self.engine_version:
            object.__setattr__(self, "engine_version", self.configuration.engine_version)
        if type(self.seed) is not int or not 0 <= self.seed <= MAX_SEED:
            raise InputError(f"seed {self.seed}: must be a whole number from 0 to 2^63 - 1")

    @cached_property
    def trial_id(self) -> str:
        """16 hex digits of the fingerprint of the configuration, the seed and the engine's
        version."""
        identity = as_written(asdict(self.configuration), self.engine_version) | {
            "seed": self.seed,
            "engine_version": self.engine_version,
        }
        return fingerprint(identity)[:16]

    @property
    def twin(self) -> "Trial[C]":
        """The BP trial with which this one is compared. A BP trial is its own twin."""
        return replace(self, configuration=self.configuration.twin())

    @property
    def twin_id(self) -> str:
        """The id of its twin. Many trials have the same one, so it is computed once for them."""
        configuration: Any = self.configuration
        return _trial_id(_twin_of(configuration), self.seed, self.engine_version)


@lru_cache(10_000)
def _twin_of(configuration: Any) -> Any:
    return configuration.twin()


@lru_cache(10_000)
def _trial_id(configuration: Any, seed: int, engine_version: int) -> str:
    return Trial(configuration, seed, engine_version).trial_id
