"""A GPU of one multiprocessor on the CPU: it runs our kernels, thread by thread, in chosen orders.

A barrier that is missing shows, because no order of the threads may change a bit. It emulates what
our kernels need and no more: blocks of one dimension, barriers, whole warps, shared memory. Numbers
have the bits of a GPU, as each operation rounds once on both.
"""

import atexit
import ctypes
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from ctypes import c_char_p, c_int, c_longlong, c_ulonglong, c_void_p
from functools import cache
from pathlib import Path

from pcworker.kernels.fixed.library import HERE

RUNTIME = Path(__file__).with_suffix(".cpp")
FLAGS = (
    *("-std=c++20", "-O2", "-g1", "-ffp-contract=off", "-fno-strict-aliasing", "-w"),
    *("-U_FORTIFY_SOURCE", "-fPIC", "-shared", "-pthread", *HERE),
)
"""A check of _FORTIFY_SOURCE would take the change to another fiber for an error."""
REAL_THREADS = ("-DREAL_THREADS", "-fsanitize=thread")
"""The flags of a build whose threads are the CPU's, watched by ThreadSanitizer. Its process must
have loaded the library of ThreadSanitizer before all others."""
ORDERS = ("ascending", "reversed", "shuffled")
"""The orders of threads, in the order of the enumeration in `emulated_gpu.cpp`."""
_MOST_ARGUMENTS = 16


class EmulatedGpu:
    """A source that was compiled for the emulator. It takes the place of a `GpuCode`."""

    def __init__(
        self,
        source: Path,
        headers: Sequence[Path] = (),
        defines: Sequence[str] = (),
        *,
        order: str = "ascending",
        seed: int = 0,
        flags: tuple[str, ...] = (),
    ) -> None:
        """
        headers  files that the source includes by their bare names
        defines  macros, such as "DOUBLE" or "ROWS=4"
        order    in which the threads run between two barriers: one of `ORDERS`
        seed     of the order "shuffled", which is another one after every barrier
        flags    more of the compiler's, such as `REAL_THREADS`
        """
        folders = dict.fromkeys(path.parent for path in (source, *headers))
        words = [*(f"-I{folder}" for folder in folders), *(f"-D{define}" for define in defines)]
        texts = tuple(path.read_text() for path in headers)
        self.library = _compiled(source, source.read_text(), texts, (*words, *flags))
        self._order, self._seed = ORDERS.index(order), seed

    def launch(
        self, kernel: str, blocks: int, threads: int, shared: int, arguments: Sequence[int]
    ) -> None:
        """Runs a kernel to its end. The arguments are as in `GpuCode.launch`.

        Raises RuntimeError if not all threads come to a barrier, or if a block writes beyond its
        shared memory.
        """
        assert blocks > 0, "a GPU refuses a launch without blocks"
        assert len(arguments) <= _MOST_ARGUMENTS
        values = (c_longlong * _MOST_ARGUMENTS)(*arguments)
        code = ctypes.cast(self.library[kernel], c_void_p)
        said = self.library.emulated_launch(
            code, blocks, threads, shared, values, self._order, self._seed
        )
        if said is not None:
            raise RuntimeError(f"{kernel}: {said.decode()}")


@cache
def _compiled(
    source: Path, text: str, headers: tuple[str, ...], flags: tuple[str, ...]
) -> ctypes.PyDLL:
    """The library. Texts are arguments so that a source that has changed is compiled again."""
    del headers
    zig = [sys.executable, "-m", "ziglang", "c++"]
    command = ["c++"] if shutil.which("c++") else zig
    # A variable of a block is one of the whole program: all fibers see it, as all threads do.
    static = re.sub(r"(?<!extern )__shared__", "static __shared__", text)
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)  # ThreadSanitizer reads in the library where a race is
    kernel, made = folder / "kernel.cpp", folder / "made.so"
    kernel.write_text(f'#include "emulated_gpu.h"\n#line 1 "{source}"\n{static}')
    words = [*command, *FLAGS, *flags, f"-I{RUNTIME.parent}", str(kernel), str(RUNTIME)]
    subprocess.run([*words, "-o", str(made)], check=True)
    library = ctypes.PyDLL(str(made))  # it holds Python's lock: there is one launch at a time
    n, p = c_int, c_void_p
    library.emulated_launch.argtypes = [p, n, n, n, p, n, c_ulonglong]
    library.emulated_launch.restype = c_char_p
    return library
