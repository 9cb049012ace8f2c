"""What is said to a GPU's driver, and what a user reads if it refuses. No GPU is needed.

The oracle is a made-up driver in C, whose functions have the prototypes of cuda.h. It writes down
what it was called with, and returns the error that a test asks for.
"""

import ctypes
import subprocess
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from pcworker.kernels.cuda import driver
from pcworker.kernels.cuda.driver import GpuCode, gpu_limits
from pcworker.kernels.cuda.nvrtc import CudaError

MADE_UP = r"""
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
char said[10000];
const char *fails = "";
int refusal;
static int say(const char *name, const char *form, ...) {
    va_list values;
    size_t at = strlen(said);
    at += sprintf(said + at, "%s ", name);
    va_start(values, form);
    at += vsprintf(said + at, form, values);
    va_end(values);
    strcpy(said + at, "\n");
    return strcmp(name, fails) == 0 ? refusal : 0;
}
int cuGetErrorName(int e, const char **p) { *p = "CUDA_ERROR_MADE_UP"; return e == 999; }
int cuGetErrorString(int e, const char **p) { *p = "made up"; return e == 999; }
int cuDriverGetVersion(int *p) { *p = 12040; return 0; }
int cuDeviceGetAttribute(int *p, int what, int device) { *p = what; return device; }
int cuDevicePrimaryCtxRetain(void **p, int device) { *p = (void *)7; return device; }
int cuStreamCreate(void **p, unsigned flags) { *p = (void *)9; return flags != 1; }
int cuCtxSetCurrent(void *context) { return context != (void *)7; }
int cuModuleLoadData(void **p, const void *image) {
    *p = (void *)0x123456789a;
    return say("cuModuleLoadData", "%02x", ((const unsigned char *)image)[3]);
}
int cuModuleGetFunction(void **p, void *module, const char *name) {
    *p = (void *)0xabcdef0123;
    return say("cuModuleGetFunction", "%p %s", module, name);
}
int cuFuncGetAttribute(int *p, int what, void *f) {
    *p = what * 10;
    return say("cuFuncGetAttribute", "%d %p", what, f);
}
int cuFuncSetAttribute(void *f, int what, int value) {
    return say("cuFuncSetAttribute", "%p %d %d", f, what, value);
}
int cuOccupancyMaxActiveBlocksPerMultiprocessor(int *p, void *f, int threads, size_t shared) {
    *p = 5;
    return say("cuOccupancy", "%p %d %zu", f, threads, shared);
}
int cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                   unsigned bz, unsigned shared, void *stream, void **params, void **extra) {
    return say("cuLaunchKernel", "%p %u %u %u %u %u %u %u %p %lld %lld %p", f, gx, gy, gz, bx, by,
               bz, shared, stream, *(long long *)params[0], *(long long *)params[1], extra);
}
"""
CODE = b"ab\0\xfe rest"


class MadeUpDriver:
    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))
        self._said = (ctypes.c_char * 10000).in_dll(self._library, "said")

    def said(self) -> list[str]:
        """What it was called with since this was asked last."""
        lines = self._said.value.decode().splitlines()
        self._said.value = b""
        return lines

    def let_fail(self, name: bytes, error: int) -> None:
        ctypes.c_char_p.in_dll(self._library, "fails").value = name
        ctypes.c_int.in_dll(self._library, "refusal").value = error


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("driver")
    source, made = folder / "driver.c", folder / "driver.so"
    source.write_text(MADE_UP)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(made), str(source)], check=True)
    return made


@pytest.fixture
def made_up(library: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MadeUpDriver]:
    """A driver, and a torch that believes in its GPU."""
    monkeypatch.setattr(driver, "_LIBRARY", str(library))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Made Up 100")
    stream = SimpleNamespace(cuda_stream=0x77)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    driver._driver.cache_clear()
    made = MadeUpDriver(library)
    made.let_fail(b"", 0)
    made.said()
    yield made
    driver._driver.cache_clear()


FUNCTION = "0xabcdef0123"


def test_a_launch_says_to_the_driver_what_it_was_told(made_up: MadeUpDriver) -> None:
    code = GpuCode(CODE)
    code.launch("train", 132, 640, 100_000, [2**47 + 5, -3])
    assert made_up.said() == [
        "cuModuleLoadData fe",
        "cuModuleGetFunction 0x123456789a train",
        f"cuFuncSetAttribute {FUNCTION} 8 100000",
        f"cuLaunchKernel {FUNCTION} 132 1 1 640 1 1 100000 0x77 {2**47 + 5} -3 (nil)",
    ]
    code.launch("train", 1, 32, 90_000, [0, 0])
    assert made_up.said() == [f"cuLaunchKernel {FUNCTION} 1 1 1 32 1 1 90000 0x77 0 0 (nil)"]


def test_what_a_kernel_takes_is_asked_of_the_driver(made_up: MadeUpDriver) -> None:
    code = GpuCode(CODE)
    assert code.blocks_at_once("train", 640, 60_000) == 5
    assert (code.registers("train"), code.local_bytes("train")) == (40, 30)
    assert made_up.said()[2:] == [
        f"cuFuncSetAttribute {FUNCTION} 8 60000",
        f"cuOccupancy {FUNCTION} 640 60000",
        f"cuFuncGetAttribute 4 {FUNCTION}",
        f"cuFuncGetAttribute 3 {FUNCTION}",
    ]


@pytest.mark.usefixtures("made_up")
def test_the_limits_of_a_gpu_are_these_attributes() -> None:
    """The made-up value of an attribute is its number in cuda.h."""
    limits = gpu_limits()
    assert (limits.name, limits.arch) == ("Made Up 100", "sm_7576")
    assert (limits.multiprocessors, limits.l2_bytes) == (16, 38)
    assert (limits.shared_of_block, limits.shared_of_multiprocessor) == (97, 81)
    assert limits.registers_of_multiprocessor == 82


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        (b"cuModuleLoadData", 209, "made for CUDA 12.4, cannot load our code for Made Up 100"),
        (b"cuModuleLoadData", 2, "no memory left"),
        (b"cuModuleGetFunction", 500, "refuses cuModuleGetFunction: CUDA_ERROR_MADE_UP, made up"),
        (b"cuFuncSetAttribute", 1, "refuses cuFuncSetAttribute: CUDA_ERROR_MADE_UP, made up"),
        (b"cuLaunchKernel", 700, "refuses cuLaunchKernel: CUDA_ERROR_MADE_UP, made up"),
        (b"cuLaunchKernel", 999, "refuses cuLaunchKernel: error 999$"),
    ],
)
def test_what_a_driver_refuses_is_told_in_one_line(
    name: bytes, error: int, message: str, made_up: MadeUpDriver
) -> None:
    made_up.let_fail(name, error)
    with pytest.raises(CudaError, match=message) as told:
        GpuCode(CODE).launch("train", 1, 32, 50_000, [0, 0])
    assert "\n" not in str(told.value)


def test_a_missing_driver_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "_LIBRARY", str(tmp_path / "libcuda.so.1"))
    driver._driver.cache_clear()
    with pytest.raises(CudaError, match="no driver for a GPU") as told:
        GpuCode(CODE)
    assert "\n" not in str(told.value)
