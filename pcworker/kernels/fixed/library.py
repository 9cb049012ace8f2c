"""`phases.c` as a library of float32 or float64, compiled on this machine when it is first needed.

Its bits do not depend on the compiler, its flags or the processor. Only its speed does.
"""

import ctypes
from ctypes import (
    POINTER,
    Structure,
    c_char_p,
    c_double,
    c_float,
    c_int32,
    c_int64,
    c_uint64,
    c_void_p,
)
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pcworker.errors import InputError, first_line
from pcworker.kernels.compiler import CompilerError, compiled, named_compiler
from pcworker.machine.cache import cache_folder

PHASES = Path(__file__).with_name("phases.c")
ALWAYS = ("-O3", "-ffp-contract=off", "-fno-math-errno", "-shared", "-fPIC")
"""The flags of every build. The second one keeps the compiler from fusing a product and a sum where
the source does not. The third one lets it compute several square roots at once."""
HERE = ("-march=native",)
"""The flags by which a build is fast on the machine that makes it."""
F_CODES = ("sigmoid", "tanh", "relu", "exp")
"""The functions, in the order of the enumeration in `phases.c`."""


@dataclass(frozen=True, eq=False)
class Build:
    """A compiled `phases.c`, and its structs."""

    code: ctypes.CDLL
    dtype: str
    """"float32" or "float64"."""
    real: "type[c_float] | type[c_double]"
    """The type of its numbers."""
    trial: type[Structure]
    """`Trial` of `phases.c`."""


@cache
def built(dtype: str, flags: tuple[str, ...] = HERE) -> Build:
    """The library of "float32" or "float64". It is compiled once per machine.

    Raises InputError if it cannot be compiled.
    """
    every = (*ALWAYS, *flags, *(["-DDOUBLE"] if dtype == "float64" else []))
    real = c_double if dtype == "float64" else c_float
    code, n, p = _load(every), c_int32, c_void_p
    code.train.argtypes = [p, p]
    code.gather.argtypes = [n, n, n, p, p, p, p, p, p]
    code.list_bytes.argtypes = [n, n, p, p, p, p]
    code.gather_listed.argtypes = [n, n, n, p, p, p, p, p, p, p, p, p, p]
    code.normals.argtypes = [c_uint64, c_int64, c_int64, p, p]
    code.multiply.argtypes = [n, n, n, p, n, p, n, p]
    code.add_bias.argtypes = code.add_rows.argtypes = [n, n, p, p]
    code.apply.argtypes = [n, n, p, p]
    code.apply_back.argtypes = [n, n, p, p, p]
    code.subtract.argtypes = [n, p, p, p, p]
    code.descend.argtypes = [n, real, p, p]
    code.made_by.restype = c_char_p
    return Build(code, dtype, real, trial_struct(real))


def _load(flags: tuple[str, ...]) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(compiled(PHASES, flags)))
    except CompilerError as error:
        if named := named_compiler():
            raise InputError(
                f"CC={named} does not compile {PHASES.name} ({error}); correct CC, or unset it"
            ) from None
        raise InputError(
            f"{PHASES.name} cannot be compiled here ({error}); install a C compiler or the package "
            "ziglang, or name a compiler in CC"
        ) from None
    except OSError as error:
        raise InputError(
            f"{PHASES.name} cannot be kept in {cache_folder()} or loaded from there "
            f"({first_line(error)}); mend that folder, or name another in ZILSWEEP_CACHE"
        ) from None


def trial_struct(real: "type[c_float] | type[c_double]") -> type[Structure]:
    """`Trial` of `phases.c`, for these numbers."""

    class Trial(Structure):
        _fields_ = (
            *((name, c_int32) for name in ("l_max", "instructions", "t_d", "f", "textbook")),
            *((name, real) for name in ("gamma", "sigma", "rate")),
            *((name, POINTER(c_int32)) for name in ("width", "stride", "program")),
            *((name, POINTER(c_void_p)) for name in ("theta", "transposed", "bias", "a", "d")),
            *((name, POINTER(c_void_p)) for name in ("fx", "mu", "eps", "buffer")),
            *((name, POINTER(c_void_p)) for name in ("phi", "quiet")),
            ("squares", c_void_p),
        )

    return Trial
