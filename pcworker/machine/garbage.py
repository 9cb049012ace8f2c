"""When Python may look for garbage."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def not_collected() -> Iterator[None]:
    """Python collects no garbage inside. CUDA gives up the capture of a graph if the thread that
    captures destroys another graph, and garbage may hold one. One thread may be here at a time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
