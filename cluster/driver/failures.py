"""The kinds of failures, and the kind that an exception is of. Nothing here knows Ray."""

import traceback
from dataclasses import dataclass
from typing import Literal

from pcworker.errors import DataError, FullError, LackingError, StoreError, in_one_line

FailureKind = Literal["error", "lost", "memory", "store", "hung"]
"""error: the shard raised an exception. lost: its worker, its GPU or its node died. memory: it ran
out of memory. store: its worker could not read or write the store. hung: its worker gave no sign of
life, or made no progress, for too long."""


@dataclass(frozen=True)
class Failure:
    """The reason why an attempt has no commit."""

    kind: FailureKind
    error: str
    """What went wrong, in one line."""
    traceback: str


def failure_of(error: Exception) -> Failure:
    """Returns the failure of a shard that raised `error`. Raises what `kind_of` raises."""
    whole = "".join(traceback.format_exception(error))
    return Failure(kind_of(error), in_one_line(error), whole)


def kind_of(error: BaseException) -> FailureKind:
    """Returns the kind of failure that an exception of a shard is counted as.

    Raises `error` itself if no other attempt could fare better, because the store is full, the data
    is broken, or the machine lacks what the trials need.
    """
    if isinstance(error, (DataError, FullError, LackingError)):
        raise error
    if isinstance(error, MemoryError) or _is_torchs_out_of_memory(error):
        return "memory"
    if _is_of_cuda(error):
        return "memory" if "out of memory" in str(error) else "lost"
    return "store" if isinstance(error, StoreError) else "error"


def _is_torchs_out_of_memory(error: BaseException) -> bool:
    """Torch raises one class on a GPU and another on a CPU. This does not import torch."""
    return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)


def _is_of_cuda(error: BaseException) -> bool:
    """True for an error of CUDA, after which a process cannot use its GPU any more, whichever trial
    it trains. The text counts too, because Ray cannot send every exception of torch's."""
    return type(error).__name__ in ("AcceleratorError", "CudaError") or "CUDA error" in str(error)
