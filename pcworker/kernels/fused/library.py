"""`fused.c` as a library, compiled on this machine when it is first needed, and its structs.

Without a compiler or a fitting processor `load` gives None, and torch does the work.

Why C: the same update as torch functions through torch.compile (inductor, torch 2.15.0, a stack of
48 trials of 784-32-32-10, one core of an AMD EPYC) took 0.112 ms a trial with 20 inference steps
and 0.269 ms with 64. `fused.c` takes 0.060 and 0.164 ms, and torch's own operations 0.14 to 0.26
and 0.35 to 0.39 ms. A trial alone took 0.251 and 0.624 ms by torch.compile, which also compiled for
10 to 26 s for each number of steps and width.
"""

import ctypes
import os
import subprocess
import tempfile
from collections.abc import Sequence
from ctypes import POINTER, Structure, c_float, c_int32, c_void_p
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from pcworker.fingerprint import fingerprint
from pcworker.machine.cache import cache_folder
from pcworker.machine.processor import processor_fingerprint

SOURCE = Path(__file__).with_name("fused.c")
FLAGS = ("-O3", "-march=native", "-ffp-contract=off", "-shared", "-fPIC")
INSTRUCTIONS = (
    *("predict", "begin", "activate", "clamp", "compare", "listen", "move"),
    *("learn", "learn_gated", "pull_back"),
)
"""The operations, in the order of the enumeration in `fused.c`."""
BY_FMA, BY_LANES, BY_LIBRARY = range(3)
"""The ways in which `fused.c` can add up a product, as in its enumeration."""


@dataclass(frozen=True)
class Orders:
    """The orders in which the library that torch calls adds up its products, as they were found."""

    block: int
    """The number of pixels whose products are summed apart, before the blocks' sums are added."""
    by_layer: tuple[int, ...]
    """BY_FMA or another, for the prediction of layer l = 0 .. l_max - 2."""


class Batches(Structure):
    """`Batches` of `fused.c`."""

    _fields_ = (
        ("updates", c_int32),
        ("batch", c_int32),
        ("sample_rows", c_void_p),
        ("samples", c_void_p),
        ("pixel_rows", c_void_p),
        ("pixels", c_void_p),
        ("targets", c_void_p),
        ("noise", POINTER(c_void_p)),
    )


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


def integers(values: Sequence[int]) -> "ctypes.Array[c_int32]":
    """An int32 array for a field of a struct, which keeps it alive."""
    return (c_int32 * max(1, len(values)))(*values)


def pointers(tensors: Sequence[Tensor | None]) -> "ctypes.Array[c_void_p]":
    """An array of the tensors' addresses, for a field of a struct. It keeps no tensor alive."""
    addresses = [None if tensor is None else tensor.data_ptr() for tensor in tensors]
    return (c_void_p * len(tensors))(*addresses)


def loaded() -> ctypes.CDLL:
    """The library, for those who train by it. `agreement` lets them only if `load` gives it."""
    library = load()
    assert library is not None, "fused.c was chosen although it cannot be had"
    return library


@cache
def load() -> ctypes.CDLL | None:
    """The library, or None if it cannot be compiled here. It is compiled once per machine."""
    compiler = os.environ.get("CC", "cc")
    try:
        version = subprocess.run([compiler, "--version"], capture_output=True, check=True).stdout
        name = fingerprint(
            [SOURCE.read_text(), *FLAGS, version.decode(errors="replace"), processor_fingerprint()]
        )
        path = cache_folder() / f"fused-{name[:16]}.so"
        if not path.exists():
            _compile(compiler, path)
        return ctypes.CDLL(str(path))
    except (OSError, subprocess.SubprocessError):
        return None


@cache
def gemm() -> int | None:
    """The address of the sgemm that torch itself calls; None if torch does not show it."""
    try:
        shown = ctypes.CDLL(str(Path(torch.__file__).with_name("lib") / "libtorch_cpu.so"))
        return ctypes.cast(shown.sgemm_, c_void_p).value
    except (OSError, AttributeError):
        return None


def _compile(compiler: str, path: Path) -> None:
    """Compiles under another name first, because several workers may start at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as directory:
        made = Path(directory) / path.name
        command = [compiler, *FLAGS, str(SOURCE), "-o", str(made)]
        subprocess.run(command, capture_output=True, check=True, timeout=120)
        made.replace(path)
