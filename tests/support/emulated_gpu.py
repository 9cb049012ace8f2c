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
    *("-U_FORTIFY_SOURCE", "-fPIC", "-pthread", *HERE),
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
        # A variable of a block is one of the whole program: all fibers see it, as all threads do.
        static = re.sub(r"(?<!extern )__shared__", "static __shared__", source.read_text())
        text = f'#include "emulated_gpu.h"\n#line 1 "{source}"\n{static}'
        self.library = compiled(text, (*words, *flags), texts)
        self._order, self._seed = order, seed

    def launch(
        self, kernel: str, blocks: int, threads: int, shared: int, arguments: Sequence[int]
    ) -> None:
        """Runs a kernel to its end. The arguments are as in `GpuCode.launch`.

        Raises RuntimeError if not all threads come to a barrier, or if a block writes beyond its
        shared memory.
        """
        how = (blocks, threads, shared)
        launched(self.library, kernel, how, arguments, self._order, self._seed)


def launched(
    library: ctypes.PyDLL,
    kernel: str,
    how: tuple[int, int, int],
    arguments: Sequence[int],
    order: str,
    seed: int,
) -> None:
    """Runs a kernel of a library to its end. `how` are the blocks, the threads of each, and the
    bytes of shared memory of each. See `EmulatedGpu`."""
    assert how[0] > 0, "a GPU refuses a launch without blocks"
    assert len(arguments) <= _MOST_ARGUMENTS
    values = (c_longlong * _MOST_ARGUMENTS)(*arguments)
    code = ctypes.cast(library[kernel], c_void_p)
    said = library.emulated_launch(code, *how, values, ORDERS.index(order), seed)
    if said is not None:
        raise RuntimeError(f"{kernel}: {said.decode()}")


@cache
def compiled(text: str, flags: tuple[str, ...], headers: tuple[str, ...] = ()) -> ctypes.PyDLL:
    """The library of a program for the emulator. The texts of headers are arguments so that a
    program is compiled again when they have changed."""
    del headers
    folder = _folder()
    kernel, made = folder / "kernel.cpp", folder / "made.so"
    kernel.write_text(text)
    runtime = _runtime(tuple(flag for flag in flags if flag in REAL_THREADS))
    _compile(*flags, "-shared", str(kernel), str(runtime), "-o", str(made))
    library = ctypes.PyDLL(str(made))  # it holds Python's lock: there is one launch at a time
    n, p = c_int, c_void_p
    library.emulated_launch.argtypes = [p, n, n, n, p, n, c_ulonglong]
    library.emulated_launch.restype = c_char_p
    return library


@cache
def _runtime(flags: tuple[str, ...]) -> Path:
    """The part of the emulator that every library has."""
    made = _folder() / "runtime.o"
    _compile(*flags, "-c", str(RUNTIME), "-o", str(made))
    return made


def _folder() -> Path:
    """A new folder. ThreadSanitizer reads in libraries where a race is, until the process ends."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    return folder


def _compile(*words: str) -> None:
    zig = [sys.executable, "-m", "ziglang", "c++"]
    command = ["c++"] if shutil.which("c++") else zig
    subprocess.run([*command, *FLAGS, f"-I{RUNTIME.parent}", *words], check=True)
