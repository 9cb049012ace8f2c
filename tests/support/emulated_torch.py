"""What torch does on an emulated GPU: see `emulated_runtime.py`.

No machine code of a GPU runs on a CPU, so the work of torch's kernels is done by torch on the CPU,
in the order of the streams. There is a list of them: our engine needs few. One that is not in it
ends all work of the GPU with an error that names it. So this also shows that no other one comes
near our numbers.
"""

import ctypes
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from emulated_gpu import EmulatedGpu
from torch import Tensor

IN_PLACE = ("fill_.Scalar", "zero_")
"""Operations that write to their first argument: memory is set to zero, and gradients begin with
1."""
FUNCTIONAL = ("ne.Scalar", "sum.dim_IntList")
"""Operations that return a new tensor. They count the pixels that are not 0."""
_KERNEL = re.compile(r'extern "C" __global__ void(?: __launch_bounds__\([^)]*\))? (\w+)\(([^)]*)\)')
_LIBRARY = torch.library.Library("aten", "IMPL")
_KEPT: list[object] = []
"""What a captured graph may call again."""


def image(source: Path, headers: Sequence[Path], arch: str, defines: Sequence[str] = ()) -> bytes:
    """Takes the place of `nvrtc.cubin`: what the emulated driver loads in place of machine code."""
    del arch
    library = EmulatedGpu(source, headers, defines).library
    texts = [path.read_text() for path in (source, *headers)]
    kernels = [kernel for text in texts for kernel in _KERNEL.findall(text)]
    lines = [f"{name} {parameters.count(',') + 1}" for name, parameters in kernels]
    return "\n".join([f"emulated {library._name}", *lines, "\0"]).encode()


def replace_kernels() -> None:
    """Lets the CPU do the work of torch's kernels."""
    for name in IN_PLACE:
        _LIBRARY.impl(name, partial(_in_place, _operation(name)), "CUDA")
    for name in FUNCTIONAL:
        _LIBRARY.impl(name, partial(_functional, _operation(name)), "CUDA")
    copy = torch.library.get_kernel("aten::copy_", "CUDA")
    _LIBRARY.impl("copy_", partial(_copy, copy), "CUDA", with_keyset=True)


def put(work: Callable[[], None]) -> None:
    """Puts this into torch's current stream."""
    called = ctypes.CFUNCTYPE(None)(work)
    _KEPT.append(called)
    stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
    if error := _runtime().emulated_put(stream, called):
        raise RuntimeError(f"CUDA error {error}")


@cache
def _runtime() -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")


def _operation(name: str) -> Any:
    packet, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet), overload or "default")


def _put_operation(
    operation: Any, to: Tensor | None, arguments: Sequence[Any], named: Mapping[str, Any]
) -> None:
    """The operation is to write to its first argument, or its result to `to`."""

    # it holds no tensor of the GPU: who frees one too early has to see it
    here = [_on_the_cpu(a) if isinstance(a, Tensor) else a for a in arguments]
    there = None if to is None else _on_the_cpu(to)

    def work() -> None:
        with torch.no_grad():
            result = operation(*here, **named)
            if there is not None:
                there.copy_(result)

    put(work)


def _on_the_cpu(tensor: Tensor) -> Tensor:
    """The same memory as a tensor of the CPU."""
    storage = tensor.untyped_storage()
    if not storage.nbytes():
        return torch.empty_like(tensor, device="cpu")
    memory = (ctypes.c_char * storage.nbytes()).from_address(storage.data_ptr())
    flat = torch.frombuffer(memory, dtype=torch.uint8).view(tensor.dtype)
    return flat.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())


def _in_place(operation: Any, *arguments: Any, **named: Any) -> Tensor:
    _put_operation(operation, None, arguments, named)
    changed: Tensor = arguments[0]
    return changed


def _functional(operation: Any, *arguments: Any, **named: Any) -> Tensor:
    shapes = [a.to("meta") if isinstance(a, Tensor) else a for a in arguments]
    made = torch.empty_like(operation(*shapes, **named), device="cuda")
    _put_operation(operation, made, arguments, named)
    return made


def _copy(original: Any, keys: Any, to: Tensor, source: Tensor, waits: bool = True) -> Tensor:
    """A copy on the GPU is a kernel of torch's, unless it is one of bytes in a row."""
    same = to.dtype == source.dtype and to.stride() == source.stride()
    if to.device != source.device or (same and to.is_contiguous()):
        copied: Tensor = original.call_boxed(keys, to, source, waits)
        return copied
    return _in_place(torch.ops.aten.copy_.default, to, source)
