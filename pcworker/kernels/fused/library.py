"""`fused.c` as a library, and its structs.

Without a compiler or a fitting processor `load` gives None, and torch does the work.

Why C: the same update as torch functions through torch.compile (inductor, torch 2.15.0, a stack of
48 trials of 784-32-32-10, one core of an AMD EPYC) took 0.112 ms a trial with 20 inference steps
and 0.269 ms with 64. `fused.c` takes 0.060 and 0.164 ms, and torch's own operations 0.14 to 0.26
and 0.35 to 0.39 ms. A trial alone took 0.251 and 0.624 ms by torch.compile, which also compiled for
10 to 26 s for each number of steps and width.
"""

import ctypes
from ctypes import POINTER, Structure, c_float, c_int32, c_void_p
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from pcworker.errors import first_line
from pcworker.kernels.compiler import CompilerError, compiled, named_compiler
from pcworker.machine.cache import cache_folder

SOURCE = Path(__file__).with_name("fused.c")
FLAGS = ("-O3", "-march=native", "-ffp-contract=off", "-shared", "-fPIC")
BY_FMA, BY_LANES, BY_LIBRARY = range(3)
"""The ways in which `fused.c` can add up a product, as in its enumeration."""


@dataclass(frozen=True)
class Orders:
    """The orders in which the library that torch calls adds up its products, as they were found."""

    block: int
    """The number of pixels whose products are summed apart, before the blocks' sums are added."""
    by_layer: tuple[int, ...]
    """BY_FMA or another, for the prediction of layer l = 0 .. l_max - 2."""


class TrialStruct(Structure):
    """`Trial` of `fused.c`."""

    _fields_ = (
        *((name, c_int32) for name in ("l_max", "instructions", "block", "t_d")),
        *((name, c_float) for name in ("gamma", "sigma", "rate")),
        *((name, POINTER(c_int32)) for name in ("width", "stride", "order", "program")),
        ("gemm", c_void_p),
        *(
            (name, POINTER(c_void_p))
            for name in ("theta", "transposed", "a", "d", "fx", "mu", "eps", "buffer")
        ),
        *((name, POINTER(c_void_p)) for name in ("phi", "quiet")),
        ("change", c_void_p),
        ("heard", c_void_p),
        ("squares", c_void_p),
    )


def loaded() -> ctypes.CDLL:
    """The library, for those who train by it. `agreement` lets them only if `load` gives it."""
    library = load()
    assert library is not None, "fused.c was chosen although it cannot be had"
    return library


def load() -> ctypes.CDLL | None:
    """The library, or None if it cannot be had here. It is compiled once per machine."""
    return attempt()[0]


def trouble() -> str | None:
    """Why the library cannot be had, in one line. None if it can, or if nobody expects it: there is
    no compiler, or the one that is there cannot compile for this processor, and none was named."""
    return attempt()[1]


@cache
def attempt() -> tuple[ctypes.CDLL | None, str | None]:
    """The values of `load` and `trouble`."""
    try:
        return ctypes.CDLL(str(compiled(SOURCE, FLAGS))), None
    except CompilerError as error:
        if not (named := named_compiler()):
            return None, None
        return None, (
            f"CC={named} does not compile fused.c ({error}): torch trains in its place, with the "
            "same results but slower; correct CC, or unset it"
        )
    except OSError as error:
        return None, (
            f"fused.c cannot be kept in {cache_folder()} or loaded from there "
            f"({first_line(error)}): torch trains in its place, with the same results but slower; "
            "mend that folder, or name another in ZILSWEEP_CACHE"
        )


@cache
def gemm() -> int | None:
    """The address of the sgemm that torch itself calls; None if torch does not show it."""
    try:
        shown = ctypes.CDLL(str(Path(torch.__file__).with_name("lib") / "libtorch_cpu.so"))
        return ctypes.cast(shown.sgemm_, c_void_p).value
    except (OSError, AttributeError):
        return None
