"""The seam between the kernel of a GPU and what launches its programs.

`cuda.driver` is a GPU. The tests have an emulator, which runs the same programs on a CPU.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import torch


class Launches(Protocol):
    """The functions of a compiled source."""

    def launch(
        self, kernel: str, blocks: int, threads: int, shared: int, arguments: Sequence[int]
    ) -> None:
        """Starts a function of the source, and does not wait for it.

        shared     the bytes of shared memory of a block whose size the source does not state
        arguments  whole numbers and addresses, each of 8 bytes
        """


class Gpu(Protocol):
    """A device on which programs are launched. All that it is told to do, it does in order."""

    @property
    def device(self) -> torch.device:
        """Where the tensors are that programs read and write."""

    @property
    def shared_bytes(self) -> int:
        """The most bytes of shared memory that a block may have."""

    def program(self, source: Path, defines: Sequence[str]) -> Launches:
        """Compiles a source with these definitions, such as "BATCH=20", or takes it from the
        cache."""

    def stream(self) -> AbstractContextManager[object]:
        """What is launched inside, in torch and here, waits only for what was launched inside."""

    def beside(self) -> "Gpu":
        """The same device, with another stream, on which work is done at the same time."""

    def after(self, other: "Gpu") -> None:
        """What is launched in this stream from now on waits for what is in the other's by now."""

    def mark(self) -> Callable[[], None]:
        """Returns a function that waits until everything is done that is in the stream by now. It
        sleeps meanwhile, and does not wait for what comes later."""

    def wait(self) -> None:
        """Waits until everything is done that was launched inside the stream."""

    def recorded(self, works: Sequence[Callable[[], None]]) -> Callable[[], None]:
        """Does these works side by side, once, and returns a function that does them again with the
        same memory. That is faster, because no Python runs."""
