"""A device of the emulator, in the place of a GPU: `pcworker.kernels.cuda.gpu.Gpu`."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from emulated_gpu import EmulatedGpu

from pcworker.kernels.cuda.gpu import Gpu, Launches
from pcworker.kernels.cuda.launch import SAMPLES_CU
from pcworker.kernels.fixed.library import PHASES

H100_BYTES = 232_448
"""The shared memory of a block of an H100."""


class EmulatedDevice:
    """It has one stream, and every launch ends before the next thing begins."""

    device = torch.device("cpu")

    def __init__(
        self,
        order: str = "ascending",
        *,
        shared_bytes: int = H100_BYTES,
        samples_cu: Path = SAMPLES_CU,
        flags: tuple[str, ...] = (),
        compiler: Callable[..., Launches] = EmulatedGpu,
    ) -> None:
        """
        order       in which threads run between two barriers, see `EmulatedGpu`
        samples_cu  what is compiled in the place of `samples.cu`
        flags       more of the compiler's
        compiler    what compiles sources: `EmulatedGpu`, or `EmulatedPtx` for the code of NVRTC
        """
        self._order, self.shared_bytes = order, shared_bytes
        self._samples_cu, self._flags, self._compiler = samples_cu, flags, compiler

    def program(self, source: Path, defines: Sequence[str]) -> Launches:
        chosen = self._samples_cu if source == SAMPLES_CU else source
        return self._compiler(chosen, [PHASES], defines, order=self._order, flags=self._flags)

    def stream(self) -> AbstractContextManager[None]:
        return nullcontext()

    def beside(self) -> Gpu:
        return self

    def after(self, other: Gpu) -> None:
        pass

    def mark(self) -> Callable[[], None]:
        return self.wait

    def wait(self) -> None:
        pass

    def recorded(self, works: Sequence[Callable[[], None]]) -> Callable[[], None]:
        def again() -> None:
            for work in works:
                work()

        again()
        return again
