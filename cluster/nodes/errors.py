"""Says in one line what went wrong, where Ray wraps the exception of a worker in its own."""

import re

from ray.exceptions import RayActorError, RayError, RayTaskError

from pcworker.errors import InputError, first_line, in_one_line

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_RAISED = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt): ")


def environment_error(error: RayError) -> InputError:
    """Returns the error to raise if the workers' runtime environment cannot be set up."""
    return InputError(
        f"the workers' runtime environment cannot be set up: {_innermost(error)}; "
        "check the job's --runtime-env and --working-dir, and that every node can install what "
        "they name; best is an image that holds everything"
    )


def cause_of(error: BaseException) -> str:
    """Returns what went wrong, in one line."""
    if isinstance(error, RayTaskError) and error.cause is not None:
        return in_one_line(error.cause)
    if isinstance(error, RayActorError) and error.actor_init_failed:
        return _innermost(error)
    return in_one_line(error)


def _innermost(error: BaseException) -> str:
    """Returns the exception at the end of the traceback that a message of Ray's holds. Of an
    exception of our own it returns the message alone."""
    lines = [_COLOUR.sub("", line).strip() for line in str(error).splitlines()]
    raised = [line for line in lines if _RAISED.match(line)]
    if not raised:
        return first_line(error)
    ours = raised[-1].startswith("pcworker.errors.")
    return raised[-1].split(": ", 1)[-1] if ours else raised[-1]
