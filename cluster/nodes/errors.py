"""What an exception of Ray's says, in one line."""

import re

from ray.exceptions import RayActorError, RayError, RayTaskError

from pcworker.errors import InputError

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_RAISED = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt): ")


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
