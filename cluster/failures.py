"""What an exception of Ray's means for a shard: its kind, and its cause in one line."""

from typing import Any

from ray.exceptions import OutOfMemoryError, RayError, RayTaskError, RuntimeEnvSetupError

from cluster.decide import FailureKind
from pcworker.errors import InputError, StoreError


def kind_of(error: RayError) -> FailureKind:
    """How the failure of an attempt is counted, and what is done about it.

    Raises InputError where no other attempt could fare better: the environment of the workers
    cannot be set up.
    """
    if isinstance(error, RuntimeEnvSetupError):
        raise environment_error(error) from error
    cause: Any = error.cause if isinstance(error, RayTaskError) else None
    if isinstance(error, OutOfMemoryError) or isinstance(cause, MemoryError):
        return "memory"
    # torch's, on a GPU and on a CPU, without importing torch
    if type(cause).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(cause):
        return "memory"
    if isinstance(cause, StoreError):
        return "store"
    return "error" if isinstance(error, RayTaskError) else "lost"


def environment_error(error: RayError) -> InputError:
    """Of workers whose runtime environment cannot be set up."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return InputError(
        f"the workers' runtime environment cannot be set up: {' '.join(lines[:3])[:500]}; "
        "check the job's --runtime-env and --working-dir, and that every node can install what "
        "they name; best is an image that holds everything"
    )


def cause_of(error: BaseException) -> str:
    """What went wrong, in one line."""
    if isinstance(error, RayTaskError) and error.cause is not None:
        return f"{type(error.cause).__name__}: {first_line(error.cause)}"
    inner = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in inner if line.startswith("pcworker.errors.")]
    return named[-1].split(": ", 1)[-1] if named else f"{type(error).__name__}: {first_line(error)}"


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, or its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
