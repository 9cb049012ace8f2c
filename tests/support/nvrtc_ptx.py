"""The PTX that NVRTC makes of a source, with the options of the machine code of `cuda.nvrtc`.

PTX is what the compiler for GPUs makes before it chooses registers and machine instructions.
"""

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, c_size_t, c_void_p
from functools import cache
from pathlib import Path

import pytest

from pcworker.kernels.cuda.nvrtc import _FLAGS, CudaError, _Nvrtc, _nvrtc


def ptx(
    source: Path,
    headers: Sequence[Path] = (),
    defines: Sequence[str] = (),
    *,
    arch: str = "compute_90",
    flags: Sequence[str] = (),
) -> str:
    """The PTX of a source.

    arch   a virtual architecture, such as "compute_90"
    flags  options that take the place of those of `cuda.nvrtc` with the same names

    Raises CudaError if there is no NVRTC, or if it does not compile the source.
    """
    other = {flag.partition("=")[0] for flag in flags}
    kept = [flag for flag in _FLAGS if flag.partition("=")[0] not in other]
    words = [f"--gpu-architecture={arch}", *kept, *flags, *(f"-D{define}" for define in defines)]
    texts = tuple(path.read_text() for path in (source, *headers))
    return _made(source, tuple(headers), texts, tuple(words))


@cache
def _made(
    source: Path, headers: tuple[Path, ...], texts: tuple[str, ...], words: tuple[str, ...]
) -> str:
    """Texts are arguments so that a source that has changed is compiled again."""
    del texts
    return _compiler().compiled(source, headers, words).rstrip(b"\0").decode()


class _PtxCompiler(_Nvrtc):
    """NVRTC, whose product is PTX: there is no machine code for a virtual architecture."""

    def __init__(self, library: ctypes.CDLL) -> None:
        library.nvrtcGetPTXSize.argtypes = [c_void_p, POINTER(c_size_t)]
        library.nvrtcGetPTX.argtypes = [c_void_p, c_void_p]
        super().__init__(library)

    def _output(self, what: str, made: c_void_p) -> bytes:
        return super()._output("PTX" if what == "CUBIN" else what, made)


@cache
def _compiler() -> _PtxCompiler:
    return _PtxCompiler(_nvrtc()._library)


def require_nvrtc(arch: str = "compute_90") -> None:
    """Skips a test where NVRTC is missing, or does not know the architecture."""
    try:
        _compiler().require_knows(arch.replace("compute", "sm"))
    except CudaError as error:
        pytest.skip(str(error))
