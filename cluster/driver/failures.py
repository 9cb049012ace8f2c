"""What an exception of Ray's means for a shard."""

from typing import Any

from ray.exceptions import (
    OutOfMemoryError,
    RayError,
    RayTaskError,
    RuntimeEnvSetupError,
)

from cluster.driver.decide import FailureKind
from cluster.nodes.errors import environment_error
from pcworker.errors import DataError, FullError, StoreError


def kind_of(error: RayError) -> FailureKind:
    """How the failure of an attempt is counted, and what is done about it.

    Raises InputError where no other attempt could fare better: the environment of the workers
    cannot be set up, the store is full, or the data is broken.
    """
    if isinstance(error, RuntimeEnvSetupError):
        raise environment_error(error) from error
    cause: Any = error.cause if isinstance(error, RayTaskError) else None
    if isinstance(cause, (DataError, FullError)):
        raise cause from error
    if isinstance(error, OutOfMemoryError) or isinstance(cause, MemoryError):
        return "memory"
    # torch's, on a GPU and on a CPU, without importing torch
    if type(cause).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(cause):
        return "memory"
    if isinstance(cause, StoreError):
        return "store"
    return "error" if isinstance(error, RayTaskError) else "lost"
