"""CUDA's runtime and driver without a GPU, for the processes of a test.

`emulated_runtime.cpp` and `emulated_driver.cpp` take the place of NVIDIA's libraries, so that torch
believes in a GPU. Everything that we and torch say to a GPU from Python is said to them: streams,
events, captured graphs, memory, launches. Our kernels run on the emulator of `emulated_gpu.py`, and
torch's own are done on the CPU by `emulated_torch.py`.
"""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import torch

HERE = Path(__file__).parent
SOURCES = tuple(HERE / name for name in ("emulated_runtime.cpp", "emulated_driver.cpp"))
TIMES = ("late", "at once", "between")
"""When work in a stream is done, in the order of the enumeration in `emulated_streams.h`."""
_NOTHING = ("CUDARTAPI", "__host__", "__device__", "__device_builtin__", "__cudart_builtin__")
_HOST_DEFINES = "\n".join(
    [
        "#pragma once",
        *(f"#define {word}" for word in _NOTHING),
        "#define __device_builtin_texture_type__",
        "#define __device_builtin_surface_type__",
        "#define __align__(bytes) __attribute__((aligned(bytes)))",
        "#define __builtin_align__(bytes) __align__(bytes)",
        "",
    ]
)
"""A header of nvcc's. The package with NVIDIA's other headers has not got it."""


def missing() -> str | None:
    """Why there can be no emulated runtime here, or None."""
    if not torch.version.cuda:
        return "torch is not built for CUDA here"
    if not hasattr(torch.library, "get_kernel"):
        return "this torch is too old to have one of its kernels replaced and still called"
    if torch.cuda.is_available():
        return "there is a real GPU here"
    if _headers() is None:
        return "there are no headers of CUDA here"
    if shutil.which("c++") is None:
        return "there is no C++ compiler here"
    return None


def built(folder: Path) -> Path:
    """The library, compiled into a new folder."""
    defines = folder / "crt" / "host_defines.h"
    defines.parent.mkdir(parents=True)
    defines.write_text(_HOST_DEFINES)
    made = folder / "libcuda.so.1"
    flags = ["-std=c++20", "-O1", "-w", "-fPIC", "-shared", "-pthread", "-Wl,-soname,libcuda.so.1"]
    words = ["c++", *flags, f"-I{folder}", f"-I{_headers()}", *map(str, SOURCES), "-ldl"]
    subprocess.run([*words, "-o", str(made)], check=True)
    return made


def environment(library: Path, times: str = "late", **more: str) -> dict[str, str]:
    """What makes a process believe in a GPU, beside its other environment.

    times  when work in a stream is done: one of `TIMES`
    more   EMULATED_MEMORY, the bytes of the GPU's memory; EMULATED_SAMPLES, how many digits MNIST
           has; EMULATED_KERNELS, see `emulated_torch.py`; EMULATED_BREAKS, a file: the GPU of the
           first process that makes it breaks
    """
    places = (HERE / "emulated_site", HERE, HERE.parents[1])
    return {
        "LD_PRELOAD": str(library),
        "PYTHONPATH": os.pathsep.join(map(str, places)),
        "EMULATED_TIMES": str(TIMES.index(times)),
        **more,
    }


def _headers() -> Path | None:
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for file in Path(folder).glob("*/include/cuda_runtime_api.h"):
            return file.parent
    return None
