"""The exceptions of the project.

    ZilsweepError
    ├── InputError            the user's input or environment; one line and exit code 2
    │   ├── DataError         a data set is missing or broken, or not the canonical MNIST
    │   └── StoreError        the store cannot be read or written, or answers what it should not
    │       ├── DamagedError      one object in the store is corrupt; the rest stays readable
    │       ├── FullError         there is no space left in it, or it is read-only
    │       ├── OverwritingError  it ignores the condition of a conditional write
    │       └── UnavailableError  the store does not answer, or is overloaded: waiting may help
    └── IncompleteError       a table was asked over cells that are not there

Every message says what was received, what is allowed, and what to do.
"""


class ZilsweepError(Exception):
    """Root of the project's exceptions."""


class InputError(ZilsweepError):
    """The user's input or environment is at fault."""


class DataError(InputError):
    """A data set is missing or broken, or not the canonical one."""


class StoreError(InputError):
    """The store cannot be read or written."""


class DamagedError(StoreError):
    """One object in the store is not what its commit says."""


class FullError(StoreError):
    """There is no space left in the store, or it is read-only: nobody can write there."""


class OverwritingError(StoreError):
    """A write that must not overwrite did: two workers could both commit a shard."""


class UnavailableError(StoreError):
    """The store does not answer, or asks to be spared: waiting may help."""


class IncompleteError(ZilsweepError):
    """Cells of the sweep have no committed trial yet."""
