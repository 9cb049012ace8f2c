"""The PTX that NVRTC makes of our kernels, on the emulator of a GPU.

`EmulatedGpu` shows what the source means. This shows what the GPU's own compiler makes of it: it
may fuse a product and a sum, change the order of a sum, or read four numbers at once from a place
that is not aligned. PTX is written in C++, step by step, and run as a source is.
"""

from collections.abc import Sequence
from ctypes import PyDLL, c_uint32
from functools import cache
from pathlib import Path
from typing import NamedTuple

from emulated_gpu import compiled, launched
from nvrtc_ptx import ptx
from ptx_code import kernel_code, shared_memory
from ptx_text import Function, Module, module

FLAGS = ("-O1", "-fwrapv", "-g0")
"""A kernel has thousands of variables: with -O2 it takes twice as long to compile it."""


class EmulatedPtx:
    """A source that NVRTC has compiled. It takes the place of a `GpuCode`."""

    def __init__(
        self,
        source: Path,
        headers: Sequence[Path] = (),
        defines: Sequence[str] = (),
        *,
        arch: str = "compute_90",
        order: str = "ascending",
        seed: int = 0,
        flags: tuple[str, ...] = (),
    ) -> None:
        """
        arch         a virtual architecture
        order, seed  as in `EmulatedGpu`
        flags        options of NVRTC that take the place of ours

        Raises CudaError if there is no NVRTC.
        """
        self.text = ptx(source, headers, defines, arch=arch, flags=flags)
        self._order, self._seed = order, seed

    def launch(
        self, kernel: str, blocks: int, threads: int, shared: int, arguments: Sequence[int]
    ) -> None:
        """Runs a kernel to its end. The arguments are as in `GpuCode.launch`.

        Raises UnknownPtx if something in the PTX is not known, and RuntimeError if a GPU would
        refuse the launch, if an address is not aligned or beyond the shared memory of the block,
        or as `EmulatedGpu` does.
        """
        code = _made(self.text, kernel)
        assert len(arguments) == len(code.function.parameters)
        most_threads = code.function.most_threads
        if most_threads is not None and threads > most_threads:
            raise RuntimeError(f"{kernel}: a block has at most {most_threads} threads")
        c_uint32.in_dll(code.library, "bytes_of_block").value = code.shared + shared
        how = (blocks, threads, code.shared + shared)
        launched(code.library, kernel, how, arguments, self._order, self._seed)


class _Code(NamedTuple):
    """A kernel that was compiled for the emulator."""

    function: Function
    shared: int
    """The bytes of shared memory that its source states."""
    library: PyDLL


@cache
def _made(text: str, kernel: str) -> _Code:
    made = _read(text)
    library = compiled(kernel_code(made, kernel), FLAGS)
    return _Code(made.functions[kernel], shared_memory(made, kernel).size, library)


@cache
def _read(text: str) -> Module:
    return module(text)
