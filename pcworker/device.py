"""Where an engine computes: one CPU thread per reserved core, or the GPU that Ray assigned."""

import os
import platform

import torch

from pcworker.errors import InputError


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
    return torch.device("cuda", 0)


def device_name(device: torch.device) -> str:
    """What the results say it was: the processor's model and the threads, or the GPU's name."""
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    capability = torch.backends.cpu.get_cpu_capability()
    return f"cpu: {_processor()}, {capability}, {torch.get_num_threads()} thread(s)"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model n")]
        return models[0]
    except (OSError, IndexError):
        return platform.processor() or platform.machine()
