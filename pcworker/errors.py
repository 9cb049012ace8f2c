"""Defines the exceptions of the project.

    ZilsweepError
    ├── InputError            the user's input or environment is wrong: one line, exit code 2
    │   ├── DataError         a data set is missing or broken, or not the canonical MNIST
    │   ├── LackingError      a worker's machine lacks what the trials need, such as a compiler
    │   └── StoreError        the store cannot be read or written, or gives a wrong answer
    │       ├── DamagedError      one object in the store is corrupt; the rest is readable
    │       ├── FullError         the store has no space left, or is read-only
    │       ├── OverwritingError  the store ignores the condition of a conditional write
    │       └── UnavailableError  the store does not answer, or is overloaded: waiting may help
    ├── IncompleteError       a table was asked for, and cells of it have no result yet
    └── HaltedError           a training was asked to stop: what it did is in its last checkpoint

Every message says what was received, what is allowed, and what to do.
"""


class ZilsweepError(Exception):
    """The root of the project's exceptions."""


class InputError(ZilsweepError):
    """The user's input or environment is at fault."""


class DataError(InputError):
    """A data set is missing or broken, or not the canonical one."""


class LackingError(InputError):
    """A worker's machine lacks what the trials need."""


class StoreError(InputError):
    """The store cannot be read or written."""


class DamagedError(StoreError):
    """One object in the store is corrupt; the others are readable."""


class FullError(StoreError):
    """The store has no space left, or it is read-only: nobody can write there."""


class OverwritingError(StoreError):
    """The store overwrote where it must not, so that two workers could both commit a shard."""


class UnavailableError(StoreError):
    """The store does not answer, or is overloaded. Waiting may help."""


class IncompleteError(ZilsweepError):
    """Some cells of the sweep have no committed trial yet."""


class HaltedError(ZilsweepError):
    """A training was asked to stop, and has saved a checkpoint of everything that it did."""

    def __init__(self, reached: float, seconds: float) -> None:
        """
        reached  how far the checkpoint is, in epochs
        seconds  the time of training that it holds
        """
        super().__init__(f"the training was asked to stop, after {reached:g} epochs")
        self.reached, self.seconds = reached, seconds


def first_line(error: BaseException) -> str:
    """Returns the first line of an exception's message, or its type if there is no message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def in_one_line(error: BaseException) -> str:
    """Returns the type of an exception and the first line of its message."""
    return f"{type(error).__name__}: {first_line(error)}"
