"""The state of a test process that one test could leave to the next, and how it is put back."""

import atexit
import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ray_clusters import NO_IDLE_WORKERS

from cluster.nodes.resources import ray_environment
from pcworker.machine.device import prepare_device
from pcworker.store.patient import INTERRUPTED

PYTEST_OWN = "PYTEST_CURRENT_TEST"
"""A variable that pytest itself changes while a test runs."""


def begin() -> None:
    """Gives this process a state of its own, the same before every test.

    The user's settings of Ray and AWS are out of sight, and the home is an empty folder, so that
    processes of tests that run at once write no token of Ray into the same file. The user's caches
    stay where they are: what is in them (data, compiled code, fonts) is never changed.
    """
    said = ("AWS_", "RAY_")
    for name in [name for name in os.environ if name.startswith(said)]:
        del os.environ[name]
    os.environ.setdefault("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    home = tempfile.mkdtemp(prefix="zilsweep-home-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    os.environ["HOME"] = home
    os.environ.update(NO_IDLE_WORKERS)
    ray_environment(None)  # Ray reads these variables when any test imports it
    prepare_device("cpu", gpus=0, cpus=1)


def environment() -> dict[str, str]:
    """A copy of this process's environment variables, as a test may change them."""
    return {name: value for name, value in os.environ.items() if name != PYTEST_OWN}


def set_environment(wanted: Mapping[str, str]) -> None:
    for name in environment().keys() - wanted.keys():
        del os.environ[name]
    os.environ.update(wanted)


def set_garbage_collection(on: bool) -> None:
    (gc.enable if on else gc.disable)()


def set_interrupted(now: bool) -> None:
    (INTERRUPTED.set if now else INTERRUPTED.clear)()


STATE: tuple[tuple[Callable[[], Any], Callable[[Any], object]], ...] = (
    (environment, set_environment),
    (os.getcwd, os.chdir),
    (lambda: [*sys.argv], partial(setattr, sys, "argv")),
    (partial(os.sched_getaffinity, 0), partial(os.sched_setaffinity, 0)),
    *(
        (partial(signal.getsignal, number), partial(signal.signal, number))
        for number in (signal.SIGINT, signal.SIGTERM)
    ),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    (gc.isenabled, set_garbage_collection),
    (INTERRUPTED.is_set, set_interrupted),
)
"""Each part of the state: how it is read, and how it is set.

The generators of random numbers are not among them: to reset them would hide what depends on them.
"""


@contextmanager
def kept() -> Iterator[None]:
    """Puts every part of the state back that has changed meanwhile."""
    before = [read() for read, _ in STATE]
    try:
        yield
    finally:
        for (read, write), value in zip(STATE, before, strict=True):
            if read() != value:
                write(value)
