"""The PTX that NVRTC makes of our kernels, on the emulator of a GPU.

`EmulatedGpu` shows what the source means. This shows what the GPU's own compiler makes of it: it
may fuse a product and a sum, change the order of a sum, or read four numbers at once from a place
that is not aligned. PTX is written in C++, step by step, and run as `emulated_gpu.py` runs a source.
"""

from collections.abc import Sequence
from ctypes import c_uint32
from functools import cache
from pathlib import Path

from emulated_gpu import compiled, launched
from nvrtc_ptx import ptx
from ptx_code import kernel_code, shared_memory
from ptx_text import Module, module

FLAGS = ("-O1", "-fwrapv")
"""A kernel has thousands of variables: -O2 takes much longer to compile it."""


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

        Raises CudaError if there is no NVRTC, and UnknownPtx if a variable is not known.
        """
        self._module = _read(ptx(source, headers, defines, arch=arch, flags=flags))
        self._order, self._seed = order, seed

    def launch(
        self, kernel: str, blocks: int, threads: int, shared: int, arguments: Sequence[int]
    ) -> None:
        """Runs a kernel to its end. The arguments are as in `GpuCode.launch`.

        Raises UnknownPtx if an instruction is not known, and RuntimeError if a GPU would refuse the
        launch, if an address is not aligned or beyond the shared memory, or as `EmulatedGpu` does.
        """
        function = self._module.functions[kernel]
        assert len(arguments) == len(function.parameters)
        if function.most_threads is not None and threads > function.most_threads:
            raise RuntimeError(f"{kernel}: a block has at most {function.most_threads} threads")
        library = compiled(kernel_code(self._module, kernel), FLAGS)
        bytes_of_block = shared_memory(self._module, kernel).size + shared
        c_uint32.in_dll(library, "bytes_of_block").value = bytes_of_block
        how = (blocks, threads, bytes_of_block)
        launched(library, kernel, how, arguments, self._order, self._seed)


@cache
def _read(text: str) -> Module:
    return module(text)
