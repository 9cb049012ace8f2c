"""Loads machine code onto torch's GPU and launches it on torch's stream, by the GPU's driver.

The code shares the primary context of the device with torch, so that addresses of torch's tensors
are addresses for it.
"""

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes import POINTER, byref, c_char_p, c_int, c_int64, c_size_t, c_uint, c_void_p
from dataclasses import dataclass
from functools import cache

import torch

from pcworker.kernels.cuda.nvrtc import CudaError

_LIBRARY = "libcuda.so.1"

# the enumerations of cuda.h: errors, attributes of a device, attributes of a kernel
_OUT_OF_MEMORY = 2
_TOO_OLD = (36, 200, 209, 218, 222, 300)
"""A newer driver is required, or the image, the GPU, PTX, its version or the source is unknown."""
_MULTIPROCESSORS, _L2_BYTES, _MAJOR, _MINOR = 16, 38, 75, 76
_SHARED_OF_MULTIPROCESSOR, _REGISTERS, _SHARED_OF_BLOCK = 81, 82, 97
_NON_BLOCKING = 1
"""A stream that does not wait for the default one."""
_LOCAL_BYTES, _NUMBER_OF_REGISTERS, _LARGEST_SHARED = 3, 4, 8


@dataclass(frozen=True)
class GpuLimits:
    """What a GPU has."""

    name: str
    arch: str
    """Such as "sm_90"."""
    multiprocessors: int
    shared_of_block: int
    """The bytes of shared memory that one block may ask for."""
    shared_of_multiprocessor: int
    """The bytes of shared memory that the blocks on a multiprocessor share. Each block takes up to
    1 kB more than it asks for."""
    registers_of_multiprocessor: int
    """Of 32 bits each."""
    l2_bytes: int


def gpu_limits() -> GpuLimits:
    """What torch's current GPU has. Raises CudaError if there is none."""
    with _current_gpu() as (driver, device):
        number = c_int()

        def value(attribute: int) -> int:
            driver.call("cuDeviceGetAttribute", byref(number), attribute, device)
            return number.value

        return GpuLimits(
            name=torch.cuda.get_device_name(device),
            arch=f"sm_{value(_MAJOR)}{value(_MINOR)}",
            multiprocessors=value(_MULTIPROCESSORS),
            shared_of_block=value(_SHARED_OF_BLOCK),
            shared_of_multiprocessor=value(_SHARED_OF_MULTIPROCESSOR),
            registers_of_multiprocessor=value(_REGISTERS),
            l2_bytes=value(_L2_BYTES),
        )


def new_stream() -> int:
    """The address of a stream on torch's current GPU that nobody else has: torch's own streams are
    32, which it gives out in turn. It lives as long as the process."""
    with _current_gpu() as (driver, _):
        made = c_void_p()
        driver.call("cuStreamCreate", byref(made), _NON_BLOCKING)
        return made.value or 0


class GpuCode:
    """Machine code on the GPU that is torch's current one when it is loaded.

    It stays there as long as the process lives, because a captured graph may still launch it. A
    kernel must be launched once before it is launched in the capture of a graph: the first launch
    may do what a capture does not allow.
    """

    def __init__(self, cubin: bytes) -> None:
        """Raises CudaError if the driver cannot load it."""
        self._functions: dict[str, c_void_p] = {}
        self._largest_shared: dict[str, int] = {}
        with _current_gpu() as (driver, device):
            self._device = device
            self._module = c_void_p()
            status = driver.library.cuModuleLoadData(byref(self._module), cubin)
            if status in _TOO_OLD:
                raise CudaError(
                    f"the driver of this GPU, made for CUDA {driver.version()}, cannot load our "
                    f"code for {torch.cuda.get_device_name(device)} ({driver.said(status)}); "
                    "install a newer driver, or a torch build for the driver's version of CUDA"
                )
            driver.require(status, "cuModuleLoadData")

    def launch(
        self, kernel: str, blocks: int, threads: int, shared: int, arguments: Sequence[int]
    ) -> None:
        """Launches a kernel on torch's current stream, and does not wait for it.

        shared     the bytes of dynamic shared memory of a block
        arguments  addresses and int64 values: every parameter of the kernel takes 8 bytes

        Raises CudaError if the kernel cannot be launched, or if an earlier one has failed.
        """
        assert blocks > 0, "a GPU refuses a launch without blocks"
        values = (c_int64 * len(arguments))(*arguments)
        first = ctypes.addressof(values)
        places = (c_void_p * len(arguments))(*(first + 8 * i for i in range(len(arguments))))
        with _gpu(self._device) as driver:
            function = self._ready(driver, kernel, shared)
            stream = torch.cuda.current_stream().cuda_stream
            grid = (blocks, 1, 1, threads, 1, 1)
            driver.call("cuLaunchKernel", function, *grid, shared, stream, places, None)

    def blocks_at_once(self, kernel: str, threads: int, shared: int) -> int:
        """How many blocks a multiprocessor runs at once."""
        with _gpu(self._device) as driver:
            function, count = self._ready(driver, kernel, shared), c_int()
            name = "cuOccupancyMaxActiveBlocksPerMultiprocessor"
            driver.call(name, byref(count), function, threads, shared)
            return count.value

    def registers(self, kernel: str) -> int:
        """The number of registers of each thread."""
        return self._attribute(kernel, _NUMBER_OF_REGISTERS)

    def local_bytes(self, kernel: str) -> int:
        """The bytes of local memory of each thread: 0 unless registers are spilled."""
        return self._attribute(kernel, _LOCAL_BYTES)

    def _attribute(self, kernel: str, attribute: int) -> int:
        with _gpu(self._device) as driver:
            function, value = self._ready(driver, kernel, 0), c_int()
            driver.call("cuFuncGetAttribute", byref(value), attribute, function)
            return value.value

    def _ready(self, driver: "_Driver", kernel: str, shared: int) -> c_void_p:
        """The kernel, which may take this many bytes of shared memory: without leave, 48 kB."""
        if kernel not in self._functions:
            function = c_void_p()
            name = kernel.encode()
            driver.call("cuModuleGetFunction", byref(function), self._module, name)
            self._functions[kernel] = function
        if shared > self._largest_shared.get(kernel, 0):
            driver.call("cuFuncSetAttribute", self._functions[kernel], _LARGEST_SHARED, shared)
            self._largest_shared[kernel] = shared
        return self._functions[kernel]


class _Driver:
    """The GPU's driver, loaded into this process."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        self._primary: dict[int, c_void_p] = {}
        handle, number = POINTER(c_void_p), POINTER(c_int)
        for name, types in {
            "cuGetErrorName": [c_int, POINTER(c_char_p)],
            "cuGetErrorString": [c_int, POINTER(c_char_p)],
            "cuDriverGetVersion": [number],
            "cuDeviceGetAttribute": [number, c_int, c_int],
            "cuDevicePrimaryCtxRetain": [handle, c_int],
            "cuCtxSetCurrent": [c_void_p],
            "cuStreamCreate": [handle, c_uint],
            "cuModuleLoadData": [handle, c_char_p],  # ctypes passes a pointer to all of the bytes
            "cuModuleGetFunction": [handle, c_void_p, c_char_p],
            "cuFuncGetAttribute": [number, c_int, c_void_p],
            "cuFuncSetAttribute": [c_void_p, c_int, c_int],
            "cuOccupancyMaxActiveBlocksPerMultiprocessor": [number, c_void_p, c_int, c_size_t],
            "cuLaunchKernel": [c_void_p, *[c_uint] * 7, c_void_p, handle, handle],
        }.items():
            getattr(library, name).argtypes = types

    def make_current(self, device: int) -> None:
        """Makes the context that torch uses on the device the current one of this thread.

        torch makes it only when it first needs it, and then only for the thread that needed it.
        """
        if device not in self._primary:
            context = c_void_p()
            self.call("cuDevicePrimaryCtxRetain", byref(context), device)
            self._primary[device] = context
        self.call("cuCtxSetCurrent", self._primary[device])

    def call(self, name: str, *arguments: object) -> None:
        """Calls a function. Raises CudaError if it fails."""
        self.require(getattr(self.library, name)(*arguments), name)

    def require(self, status: int, name: str) -> None:
        """Raises CudaError if a function of this name has returned an error."""
        if status == _OUT_OF_MEMORY:
            raise CudaError(
                f"the GPU has no memory left ({name}: {self.said(status)}); let fewer workers "
                "share it, or stop what else runs on it"
            )
        if status:
            raise CudaError(f"the GPU's driver refuses {name}: {self.said(status)}")

    def said(self, status: int) -> str:
        """The name of an error, and its meaning."""
        words = []
        for function in (self.library.cuGetErrorName, self.library.cuGetErrorString):
            text = c_char_p()
            unknown = function(status, byref(text)) != 0 or text.value is None
            words.append(f"error {status}" if unknown else (text.value or b"").decode())
        return ", ".join(dict.fromkeys(words))

    def version(self) -> str:
        """The version of CUDA that the driver was made for, such as "12.4"."""
        number = c_int()
        self.call("cuDriverGetVersion", byref(number))
        return f"{number.value // 1000}.{number.value % 1000 // 10}"


@cache
def _driver() -> _Driver:
    try:
        return _Driver(ctypes.CDLL(_LIBRARY))
    except (OSError, AttributeError) as error:
        raise CudaError(
            f"there is no driver for a GPU on this machine ({error}); install NVIDIA's driver, or "
            "train on CPU cores"
        ) from None


@contextmanager
def _current_gpu() -> Iterator[tuple[_Driver, int]]:
    """The driver and the number of torch's current GPU, whose context is made the current one."""
    _driver()  # says better than torch does what is missing
    try:
        device = torch.cuda.current_device()
    except (AssertionError, RuntimeError) as error:
        raise CudaError(f"torch finds no working GPU: {str(error).splitlines()[0]}") from None
    with _gpu(device) as driver:
        yield driver, device


@contextmanager
def _gpu(device: int) -> Iterator[_Driver]:
    """The driver, while this GPU is torch's current one and its context that of this thread."""
    driver = _driver()
    with torch.cuda.device(device):
        driver.make_current(device)
        yield driver
