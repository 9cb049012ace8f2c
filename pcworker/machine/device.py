"""Where an engine computes: one CPU thread per reserved core, or the GPU that Ray assigned."""

import os
import platform
from typing import Any

import torch
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from pcworker.errors import InputError
from pcworker.machine.processor import processor_fingerprint

FREE_MEMORY_BYTES = 2**30
"""A worker's digits, stacks and the library's own need; a stack of 48 trials takes some 50 MB."""
FREE_MEMORY_WAIT_S = 30.0


def prepare_device(device: str, *, gpus: int, cpus: int) -> torch.device:
    """Sets this process up for reproducible numbers, and returns the device to compute on.

    device  "auto": the GPU if one was assigned, else the CPU; "cpu"; "cuda"
    gpus    how many GPUs were assigned to this process
    cpus    threads to compute with on the CPU

    No TF32, deterministic algorithms. Raises InputError if a GPU was assigned, or asked for, that
    does not work: there is no silent fallback.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic with it
    torch.set_num_threads(max(1, cpus))
    torch.use_deterministic_algorithms(True)
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


def numerics() -> dict[str, Any]:
    """What this process computes with, for the record: call it after `prepare_device`."""
    return {
        "numerics": {
            "threads": torch.get_num_threads(),
            "processor": processor_fingerprint(),
            "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
            "tf32": torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32,
            "cuda": torch.version.cuda if torch.cuda.is_available() else None,
            "cublas_workspace": os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        }
    }


def device_name(device: torch.device) -> str:
    """What the results say it was: the processor's model and the threads, or the GPU's name."""
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    capability = torch.backends.cpu.get_cpu_capability()
    return f"cpu: {_processor()}, {capability}, {torch.get_num_threads()} thread(s)"


def require_enough(name: str, free: int, total: int) -> None:
    """Raises InputError if a GPU called `name` has too little memory free (in bytes)."""
    if free < FREE_MEMORY_BYTES:
        raise InputError(
            f"{name} has {free / 2**20:.0f} of {total / 2**20:.0f} MiB free, and a worker needs "
            f"{FREE_MEMORY_BYTES / 2**20:.0f}; end what else uses it, or let fewer workers share "
            "it by a larger --gpus-per-worker"
        )


# a GPU's memory comes back some seconds after the process that held it has ended
@retry(
    retry=retry_if_exception_type(InputError),
    wait=wait_fixed(1),
    stop=stop_after_delay(FREE_MEMORY_WAIT_S),
    reraise=True,
)
def _require_free_memory(device: torch.device) -> None:
    require_enough(torch.cuda.get_device_name(device), *torch.cuda.mem_get_info(device))


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model n")]
        return models[0]
    except (OSError, IndexError):
        return platform.processor() or platform.machine()
