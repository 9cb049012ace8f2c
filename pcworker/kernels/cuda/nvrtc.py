"""Compiles a CUDA source by NVRTC when it is first needed, and keeps the machine code in the cache.

Neither a GPU nor its driver is needed for that. The name of a kept file holds the sha256 of its
content, as `compiler.py` does it for C: a damaged file is never used.
"""

# NVRTC is called by ctypes, and not through the package cuda-bindings, so that a kernel and its
# tests run on a machine that has nothing but torch, NumPy and pytest.
import ctypes
import hashlib
import importlib.util
import re
from collections.abc import Iterator, Sequence
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_void_p
from functools import cache
from pathlib import Path

import torch

from pcworker.fingerprint import fingerprint
from pcworker.machine.cache import cache_folder
from pcworker.machine.disk import Folders, replace

_FLAGS = ("--std=c++17", "--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true")
"""The options of every compilation. They keep the compiler from fusing a product and a sum, from
flushing subnormal numbers, and from dividing by a rounded reciprocal."""


class CudaError(Exception):
    """A GPU, its compiler or its driver cannot do what was asked, told in one line."""


def cubin(source: Path, headers: Sequence[Path], arch: str, defines: Sequence[str] = ()) -> bytes:
    """The machine code of a source for an architecture, compiled once per machine.

    headers  files that the source may include by their bare names
    arch     such as "sm_90"
    defines  macros, such as "DOUBLE" or "ROWS=4"

    Raises CudaError if there is no NVRTC, if it does not know the architecture, or if the source
    has an error, and OSError if the code cannot be kept.
    """
    compiler = _nvrtc()
    compiler.require_knows(arch)
    options = [f"--gpu-architecture={arch}", *_FLAGS, *(f"-D{define}" for define in defines)]
    texts = [[path.name, path.read_text()] for path in (source, *headers)]
    start = f"{source.stem}-{fingerprint([texts, options, compiler.version])[:16]}-"
    folder = cache_folder().absolute()
    for kept in folder.glob(f"{start}*.cubin"):
        code = kept.read_bytes()
        if kept.name == _name(start, code):
            return code
        kept.unlink(missing_ok=True)
    code = compiler.compiled(source, headers, options)
    Folders(folder).make(folder)
    replace(folder / _name(start, code), code)
    return code


def _name(start: str, code: bytes) -> str:
    return f"{start}{hashlib.sha256(code).hexdigest()}.cubin"


class _Nvrtc:
    """NVRTC, loaded into this process."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        text, program = POINTER(c_char_p), POINTER(c_void_p)
        for name, types in {
            "nvrtcVersion": [POINTER(c_int), POINTER(c_int)],
            "nvrtcGetNumSupportedArchs": [POINTER(c_int)],
            "nvrtcGetSupportedArchs": [POINTER(c_int)],
            "nvrtcCreateProgram": [program, c_char_p, c_char_p, c_int, text, text],
            "nvrtcCompileProgram": [c_void_p, c_int, text],
            "nvrtcGetProgramLogSize": [c_void_p, POINTER(c_size_t)],
            "nvrtcGetProgramLog": [c_void_p, c_void_p],
            "nvrtcGetCUBINSize": [c_void_p, POINTER(c_size_t)],
            "nvrtcGetCUBIN": [c_void_p, c_void_p],
            "nvrtcDestroyProgram": [program],
        }.items():
            getattr(library, name).argtypes = types
        library.nvrtcGetErrorString.argtypes = [c_int]
        library.nvrtcGetErrorString.restype = c_char_p
        major, minor = c_int(), c_int()
        self._call("Version", byref(major), byref(minor))
        self.version = f"{major.value}.{minor.value}"
        """Such as "13.2"."""

    def require_knows(self, arch: str) -> None:
        """Raises CudaError unless NVRTC makes code for this architecture."""
        count = c_int()
        self._call("GetNumSupportedArchs", byref(count))
        numbers = (c_int * count.value)()
        self._call("GetSupportedArchs", numbers)
        known = sorted({f"sm_{number}" for number in numbers}, key=lambda name: int(name[3:]))
        if arch.rstrip("af") not in known:
            raise CudaError(
                f"NVRTC {self.version} makes no code for {arch}, but for {', '.join(known)}; "
                "install a torch build for a CUDA version that knows this GPU"
            )

    def compiled(self, source: Path, headers: Sequence[Path], options: Sequence[str]) -> bytes:
        """The machine code. Raises CudaError, with the first error of the log, if there is none."""
        made = c_void_p()
        self._call(
            "CreateProgram",
            byref(made),
            source.read_bytes(),
            source.name.encode(),
            len(headers),
            _texts([path.read_bytes() for path in headers]),
            _texts([path.name.encode() for path in headers]),
        )
        try:
            words = _texts([option.encode() for option in options])
            if self._library.nvrtcCompileProgram(made, len(options), words):
                log = self._output("ProgramLog", made).rstrip(b"\0").decode(errors="replace")
                raise CudaError(f"NVRTC {self.version}: {_first_error(log)}")
            return self._output("CUBIN", made)
        finally:
            self._call("DestroyProgram", byref(made))

    def _output(self, what: str, made: c_void_p) -> bytes:
        size = c_size_t()
        self._call(f"Get{what}Size", made, byref(size))
        output = ctypes.create_string_buffer(size.value)
        self._call(f"Get{what}", made, output)
        return output.raw

    def _call(self, name: str, *arguments: object) -> None:
        if status := getattr(self._library, f"nvrtc{name}")(*arguments):
            reason = self._library.nvrtcGetErrorString(status).decode()
            raise CudaError(f"nvrtc{name} fails: {reason}")


def _texts(values: Sequence[bytes]) -> "ctypes.Array[c_char_p]":
    return (c_char_p * len(values))(*values)


def _first_error(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line]
    return (errors or lines or ["the compilation fails without a word"])[0]


@cache
def _nvrtc() -> _Nvrtc:
    for name in _libraries():
        try:
            return _Nvrtc(ctypes.CDLL(name))
        except (OSError, AttributeError):  # it is not there, or too old to have every function
            continue
    raise CudaError(
        "there is no NVRTC, the compiler for GPUs, on this machine; install a torch build for "
        "CUDA, which brings it, or the package nvidia-cuda-nvrtc"
    )


def _libraries() -> Iterator[str]:
    """Where NVRTC may be: beside torch, inside it, and among the system's libraries."""
    major = (torch.version.cuda or "").partition(".")[0]  # the driver takes what torch is made for
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        files = Path(folder).glob("*/lib/libnvrtc.so.*")
        whole = [path for path in files if re.fullmatch(r"libnvrtc\.so\.\d+", path.name)]
        yield from map(str, sorted(whole, key=lambda path: path.suffix[1:] != major))
    inside = sorted((Path(torch.__file__).parent / "lib").glob("libnvrtc*.so*"))
    yield from (str(path) for path in inside if "builtins" not in path.name)
    yield f"libnvrtc.so.{major}"
    yield from ("libnvrtc.so.13", "libnvrtc.so.12")
