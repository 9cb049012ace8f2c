"""Tests of the kind of failure that an exception counts as, also after Ray has wrapped it.

Oracle: numpy, torch and Ray themselves, which raise or make the exceptions.
"""

from typing import Any

import numpy as np
import pytest
import torch
from ray import exceptions

from cluster.driver.failures import FailureKind, failure_of, kind_of
from cluster.driver.pools.on_ray import kind_of_ray
from cluster.nodes.errors import cause_of
from pcworker.errors import (
    DamagedError,
    DataError,
    FullError,
    InputError,
    LackingError,
    UnavailableError,
)

TOO_MUCH = 2**60
"""More bytes than any machine has."""


def numpys() -> Exception:
    with pytest.raises(MemoryError) as raised:
        np.empty(TOO_MUCH, np.uint8)
    return raised.value


def torchs() -> Exception:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(TOO_MUCH, dtype=torch.uint8)
    return raised.value


KINDS: list[tuple[Exception, FailureKind]] = [
    (numpys(), "memory"),
    (torchs(), "memory"),
    (torch.OutOfMemoryError("CUDA out of memory"), "memory"),
    (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), "lost"),
    (RuntimeError("CUDA error: unspecified launch failure\nMore follows."), "lost"),
    (type("CudaError", (Exception,), {})("the device is gone"), "lost"),
    (RuntimeError("CUDA error: out of memory"), "memory"),
    (UnavailableError("it does not answer"), "store"),
    (DamagedError("it is corrupt"), "store"),
    (ValueError("no"), "error"),
    (InputError("not here"), "error"),
]


def wrapped(cause: Exception | None) -> exceptions.RayTaskError:
    """The exception that Ray raises in the driver for one in a worker."""
    return exceptions.RayTaskError("run", "Traceback: ...", cause)


@pytest.mark.parametrize(("error", "kind"), KINDS, ids=[str(error)[:30] for error, _ in KINDS])
def test_an_exception_is_of_the_same_kind_in_this_process_and_on_ray(
    error: Exception, kind: FailureKind
) -> None:
    assert kind_of(error) == kind
    assert kind_of_ray(wrapped(error)) == kind
    assert failure_of(error).error == cause_of(wrapped(error))


@pytest.mark.parametrize(
    "error", [DataError("broken"), FullError("no space left"), LackingError("no compiler")]
)
def test_what_no_other_attempt_can_avoid_ends_the_driver(error: InputError) -> None:
    for look, raised in ((kind_of, error), (kind_of_ray, wrapped(error))):
        ask: Any = look
        with pytest.raises(type(error)) as said:
            ask(raised)
        assert said.value is error


def test_what_ray_raises_itself_is_a_lost_worker_or_too_little_memory() -> None:
    assert kind_of_ray(exceptions.RayActorError()) == "lost"
    assert kind_of_ray(exceptions.WorkerCrashedError()) == "lost"
    assert kind_of_ray(exceptions.OutOfMemoryError("the node is full")) == "memory"
    assert kind_of_ray(wrapped(None)) == "error"
    with pytest.raises(InputError, match="runtime environment cannot be set up"):
        kind_of_ray(exceptions.RuntimeEnvSetupError("pip has failed"))


def test_a_failure_keeps_the_traceback_of_the_exception() -> None:
    def somewhere() -> None:
        raise ValueError("first line\nsecond line")

    with pytest.raises(ValueError, match="first") as raised:
        somewhere()
    failure = failure_of(raised.value)
    assert failure.error == "ValueError: first line"
    assert "in somewhere" in failure.traceback
    assert failure.traceback.endswith("ValueError: first line\nsecond line\n")
