"""Prepares the device of an engine: one CPU thread per reserved core, or the assigned GPU."""

import os
import platform
from typing import Any

import torch
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from pcworker.errors import InputError
from pcworker.machine.places import places_on_gpu
from pcworker.machine.processor import SAME_EVERYWHERE, processor_fingerprint

FREE_MEMORY_BYTES = 2**30
"""The free memory that a worker needs on a GPU: for its digits, its stacks and the library itself.
A stack of 48 trials takes about 50 MB."""
FREE_MEMORY_WAIT_S = 30.0
"""How long a worker waits for that memory."""


def prepare_device(device: str, *, gpus: int, cpus: int) -> torch.device:
    """Sets this process up for reproducible numbers, and returns the device to compute on.

    device  "auto" (the GPU if one was assigned, else the CPU), "cpu" or "cuda"
    gpus    the number of GPUs that were assigned to this process
    cpus    the number of threads that compute on the CPU

    It turns TF32 off and deterministic algorithms on. Raises InputError if a GPU was assigned or
    asked for and does not work, or has too little free memory: it never falls back to the CPU.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS needs it for determinism
    os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "32")  # many shards have streams at once
    torch.set_num_threads(max(1, cpus))
    # torch.use_deterministic_algorithms does the same, but imports torch's compiler for it.
    torch.set_deterministic_debug_mode("error")
    # In that mode torch also fills new memory, which our kernels then write a second time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    if device == "cpu" or (device == "auto" and gpus == 0):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InputError(
            f"device {device}: torch {torch.__version__} finds no working CUDA device here; "
            "install a CUDA build and driver, or use --device cpu"
        )
    chosen = torch.device("cuda", 0)
    _require_free_memory(chosen)
    return chosen


def prefer_deterministic() -> None:
    """Turns deterministic algorithms on. Where torch has none, it only warns."""
    # without warn_only, torch refuses some gradients on a GPU that add atomically
    torch.use_deterministic_algorithms(True, warn_only=True)
    # deterministic torch fills tensors before they are overwritten; usual training does not
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def require_kind(device: torch.device, kind: str) -> None:
    """Raises InputError if the device is of another kind than the plan's, "cpu" or "cuda"."""
    if device.type != kind:
        raise InputError(
            f"the plan's device is {kind}, and this worker has {device.type}; give --device "
            f"{device.type}, or another cluster"
        )


def places(device: torch.device, gpu_share: float) -> int:
    """The number of shards that a worker trains at the same time: one on a CPU, and on a GPU as
    many as fill the worker's share of it."""
    if device.type != "cuda":
        return 1
    free, _ = torch.cuda.mem_get_info(device)
    multiprocessors = torch.cuda.get_device_properties(device).multi_processor_count
    return places_on_gpu(multiprocessors, free, min(1.0, gpu_share))


def numerics() -> dict[str, Any]:
    """The settings that decide this process's bits, for the record. Call `prepare_device` first."""
    return {
        "threads": torch.get_num_threads(),
        "processor": processor_fingerprint(),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "tf32": torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32,
        "cuda": torch.version.cuda if torch.cuda.is_available() else None,
        "cublas_workspace": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        **{name: os.environ.get(name) for name in SAME_EVERYWHERE},
    }


def device_name(device: torch.device) -> str:
    """The device's name in the results: the GPU's name, or the processor's model and threads."""
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    capability = torch.backends.cpu.get_cpu_capability()
    return f"cpu: {processor_name()}, {capability}, {torch.get_num_threads()} thread(s)"


def require_enough(name: str, free: int, total: int) -> None:
    """Raises InputError if the GPU `name` has less than FREE_MEMORY_BYTES of free memory.

    free, total  the free memory and all memory of the GPU, in bytes
    """
    if free < FREE_MEMORY_BYTES:
        raise InputError(
            f"{name} has {free / 2**20:.0f} of {total / 2**20:.0f} MiB free, and a worker needs "
            f"{FREE_MEMORY_BYTES / 2**20:.0f}; end what else uses it, or let fewer workers share "
            "it by a larger --gpus-per-worker"
        )


# the memory of a GPU becomes free some seconds after the process that held it has ended
@retry(
    retry=retry_if_exception_type(InputError),
    wait=wait_fixed(1),
    stop=stop_after_delay(FREE_MEMORY_WAIT_S),
    reraise=True,
)
def _require_free_memory(device: torch.device) -> None:
    require_enough(torch.cuda.get_device_name(device), *torch.cuda.mem_get_info(device))


def processor_name() -> str:
    """The processor's model, as the system tells it."""
    try:
        with open("/proc/cpuinfo") as lines:
            models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model n")]
        return models[0]
    except (OSError, IndexError):
        return platform.processor() or platform.machine()
