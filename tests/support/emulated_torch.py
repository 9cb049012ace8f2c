"""What torch does on an emulated GPU: see `emulated_runtime.py`.

No machine code of a GPU runs on a CPU, so the work of torch's kernels is done by torch on the CPU,
in the order of the streams. Our engine needs few of them: one that is not in the list ends all work
of the GPU with an error that names it. So this also shows that no other one comes near our numbers.
The timing runs are of torch's own modules, and need many: EMULATED_KERNELS=all.
"""

import ctypes
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from emulated_gpu import EmulatedGpu
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

ENGINE = ("fill_.Scalar", "zero_", "ne.Scalar", "sum.dim_IntList")
"""What our engine needs, beside copies: it sets memory to 0, and counts pixels that are not 0."""
CONVOLUTIONS = ("convolution", "convolution_backward")
"""These call cuDNN, not kernels of torch's."""
NO_KERNELS = re.compile(
    "cudnn|hacked|resize|record_stream|set_|_local_scalar_dense|pin_memory|_copy_|copy_$|empty"
)
"""Operations that launch no kernel of torch's, or that do so by another one."""
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
    every = os.environ.get("EMULATED_KERNELS") == "all"
    for name in (*_with_kernels(), *CONVOLUTIONS) if every else ENGINE:
        _LIBRARY.impl(name, partial(_on_the_cpu, _operation(name)), "CUDA", allow_override=True)
    torch.backends.cudnn.enabled = not every
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


def _with_kernels() -> Iterable[str]:
    """The operations for which torch has code of its own for a GPU."""
    for full in sorted(torch._C._dispatch_get_all_op_names()):
        name = full.removeprefix("aten::")
        if not full.startswith("aten::") or NO_KERNELS.search(name):
            continue
        has = partial(torch._C._dispatch_has_kernel_for_dispatch_key, full)
        arguments = _operation(name)._schema.arguments
        views = any(a.alias_info is not None and not a.alias_info.is_write for a in arguments)
        tensors = any("Tensor" in str(a.type) for a in arguments)
        if has("CUDA") and not has("CompositeImplicitAutograd") and tensors and not views:
            yield name


def _operation(name: str) -> Any:
    packet, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet), overload or "default")


def _on_the_cpu(operation: Any, *arguments: Any, **named: Any) -> Any:
    """Puts an operation into the stream, and returns the tensors that it writes."""
    schema = operation._schema
    given = dict(zip((a.name for a in schema.arguments), arguments, strict=False)) | named
    written = [given[a.name] for a in schema.arguments if a.alias_info and a.alias_info.is_write]
    if written and not _is_empty(written[0]):
        _put(operation, [], arguments, named)
        return written[0] if schema.returns else None
    shapes = operation(*tree_map(_without_numbers, arguments), **tree_map(_without_numbers, named))
    if written:  # the result has a place, which gets its size now
        written[0].resize_(shapes.shape)
        _put(operation, [], arguments, named)
        return written[0]
    flat, form = tree_flatten(shapes)
    made = [torch.empty_like(s, device="cuda") if isinstance(s, Tensor) else s for s in flat]
    _put(operation, made, arguments, named)
    return tree_unflatten(made, form)


def _put(
    operation: Any, to: Sequence[Any], arguments: Sequence[Any], named: Mapping[str, Any]
) -> None:
    """The operation is to write to its arguments, or its results to the tensors in `to`."""

    # it holds no tensor of the GPU: who frees one too early has to see it
    here, names = tree_map(_with_numbers, arguments), tree_map(_with_numbers, named)
    there = tree_map(_with_numbers, to)

    def work() -> None:
        with torch.no_grad():
            result = operation(*here, **names)
        for tensor, values in zip(there, tree_flatten(result)[0], strict=False):
            if isinstance(tensor, Tensor):
                tensor.copy_(values)

    put(work)


def _is_empty(tensor: object) -> bool:
    return isinstance(tensor, Tensor) and tensor.numel() == 0


def _without_numbers(argument: object) -> object:
    """An argument with which the shape of a result is found, and nothing is computed."""
    if isinstance(argument, torch.device):
        return torch.device("meta")
    return argument.to("meta") if isinstance(argument, Tensor) else argument


def _with_numbers(argument: Any) -> Any:
    """An argument as the CPU takes it: a tensor is the same memory as a tensor of the CPU."""
    if isinstance(argument, torch.device):
        return torch.device("cpu")
    if not isinstance(argument, Tensor) or not argument.is_cuda:
        return argument
    storage = argument.untyped_storage()
    if not storage.nbytes():
        return torch.empty_like(argument, device="cpu")
    memory = (ctypes.c_char * storage.nbytes()).from_address(storage.data_ptr())
    flat = torch.frombuffer(memory, dtype=torch.uint8).view(argument.dtype)
    return flat.as_strided(argument.shape, argument.stride(), argument.storage_offset())


def _copy(original: Any, keys: Any, to: Tensor, source: Tensor, waits: bool = True) -> Tensor:
    """A copy on the GPU is a kernel of torch's, unless it is one of bytes in a row."""
    same = to.dtype == source.dtype and to.stride() == source.stride()
    if to.device == source.device and not (same and to.is_contiguous()):
        _put(torch.ops.aten.copy_.default, [], (to, source), {})
        return to
    copied: Tensor = original.call_boxed(keys, to, source, waits)
    return copied
