"""What an exception of Ray's means for a shard: its kind, and its cause in one line."""

import re
from typing import Any

from ray.exceptions import (
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    RuntimeEnvSetupError,
)

from cluster.decide import FailureKind
from pcworker.errors import DataError, FullError, InputError, StoreError

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_RAISED = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt): ")


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


def environment_error(error: RayError) -> InputError:
    """Of workers whose runtime environment cannot be set up."""
    return InputError(
        f"the workers' runtime environment cannot be set up: {_innermost(error)}; "
        "check the job's --runtime-env and --working-dir, and that every node can install what "
        "they name; best is an image that holds everything"
    )


def cause_of(error: BaseException) -> str:
    """What went wrong, in one line."""
    if isinstance(error, RayTaskError) and error.cause is not None:
        return f"{type(error.cause).__name__}: {first_line(error.cause)}"
    if isinstance(error, RayActorError) and error.actor_init_failed:
        return _innermost(error)
    return f"{type(error).__name__}: {first_line(error)}"


def _innermost(error: BaseException) -> str:
    """The exception at the end of the traceback that a message of Ray's holds; of our own ones
    only what they say."""
    lines = [_COLOUR.sub("", line).strip() for line in str(error).splitlines()]
    raised = [line for line in lines if _RAISED.match(line)]
    if not raised:
        return first_line(error)
    ours = raised[-1].startswith("pcworker.errors.")
    return raised[-1].split(": ", 1)[-1] if ours else raised[-1]


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, or its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
