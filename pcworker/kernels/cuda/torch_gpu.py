"""A GPU, with a stream and with memory of torch's."""

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from threading import Lock

import torch

from pcworker.kernels.cuda.driver import GpuCode, gpu_limits, new_stream
from pcworker.kernels.cuda.gpu import Gpu
from pcworker.kernels.cuda.nvrtc import cubin
from pcworker.kernels.fixed.library import PHASES
from pcworker.machine.garbage import not_collected

_RECORDING = Lock()
_UNUSED: list[torch.cuda.Stream] = []
"""Streams that no object has any more. They are used again, because torch keeps memory for each."""


class TorchGpu:
    """A GPU and one stream on it. See `cuda.gpu.Gpu`."""

    def __init__(self, device: torch.device) -> None:
        """Raises CudaError if the device cannot be used."""
        self.device = device
        with torch.cuda.device(device):
            self._limits = gpu_limits()
            self._stream = _stream_of_its_own(device)
        weakref.finalize(self, _UNUSED.append, self._stream)

    @property
    def shared_bytes(self) -> int:
        return self._limits.shared_of_block

    def program(self, source: Path, defines: Sequence[str]) -> GpuCode:
        return _code(source, tuple(defines), self._limits.arch, self.device)

    @contextmanager
    def stream(self) -> Iterator[None]:
        # what was done outside, such as a copy of weights, is done before anything inside
        torch.cuda.current_stream(self.device).synchronize()
        with torch.cuda.stream(self._stream):
            yield

    def beside(self) -> Gpu:
        return TorchGpu(self.device)

    def after(self, other: Gpu) -> None:
        assert isinstance(other, TorchGpu)
        self._stream.wait_event(other._stream.record_event())

    def mark(self) -> Callable[[], None]:
        event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        event.record(self._stream)
        return lambda: event.synchronize()

    def wait(self) -> None:
        self._stream.synchronize()

    def recorded(self, works: Sequence[Callable[[], None]]) -> Callable[[], None]:
        with _RECORDING:
            # these are of torch's 32, which only recordings use, one at a time
            branches = [(work, torch.cuda.Stream()) for work in works]  # type: ignore[no-untyped-call]
            # autograd adds up a gradient in the stream in which it did so first
            self._run_each(branches)
            self._stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            # Other threads, which train other shards, may use the GPU meanwhile, but not record.
            alone = torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local")
            with not_collected(), alone:
                self._run_each(branches)
        return graph.replay

    def _run_each(self, branches: Sequence[tuple[Callable[[], None], torch.cuda.Stream]]) -> None:
        with ExitStack() as joined:  # our stream waits for a work that fails, too
            for work, branch in branches:
                branch.wait_stream(self._stream)
                joined.callback(self._stream.wait_stream, branch)
                with torch.cuda.stream(branch):
                    work()


def _stream_of_its_own(device: torch.device) -> torch.cuda.Stream:
    try:
        return _UNUSED.pop()
    except IndexError:
        return torch.cuda.ExternalStream(new_stream(), device=device)  # type: ignore[no-untyped-call]


@cache
def _code(source: Path, defines: tuple[str, ...], arch: str, device: torch.device) -> GpuCode:
    with torch.cuda.device(device):
        return GpuCode(cubin(source, [PHASES], arch, defines))
