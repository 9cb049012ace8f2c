"""How fast this machine's GPU trains Figure 3, in the fixed sums: `make benchmark-gpu`.

It needs torch and NumPy alone, no network and no data set: it draws digits of MNIST's shape and
sparsity. It prints its figures, and writes them to gpu-benchmark.json, or to a file that is named.
The exit code is 0 if all were measured, 1 if one failed, and 2 without a GPU.
"""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from jobs.gpu_speed.timed import (
    PAPERS_NETWORKS,
    UPDATES,
    TimedLaunches,
    busy_share,
    drawn_digits,
    occupancy,
    time_backprop,
    time_figure3,
    time_stack,
)
from pcworker.data.dataset import DataSet
from pcworker.kernels.cuda.driver import gpu_limits
from pcworker.kernels.cuda.nvrtc import CudaError
from pcworker.kernels.cuda.torch_gpu import TorchGpu


def figures(data: DataSet) -> Mapping[str, Callable[[], Any]]:
    """What is measured, by name."""
    gpu, wide = TorchGpu(data.device), gpu_limits().multiprocessors
    networks, middle = PAPERS_NETWORKS, PAPERS_NETWORKS[1]

    def by_width() -> dict[str, float]:
        long = TimedLaunches(data, middle, rule="IL", t=64, gamma=0.1)
        widths = {f"{k:g}": max(1, int(k * wide)) for k in (0, 0.5, 1, 2, 3, 4, 6)}
        return {k: UPDATES * width / long.time(width) for k, width in widths.items()}

    def by_samples() -> dict[int, float]:
        long = TimedLaunches(data, middle, rule="IL", t=64, gamma=0.1)
        return {s: UPDATES * 3 * wide / long.time(3 * wide, s) for s in (1, 2, 4, 5)}

    def alone(network: str, t: int, width: int = 1) -> float:
        return 1e6 * TimedLaunches(data, network, rule="IL", t=t, gamma=0.1).time(width) / UPDATES

    return {
        "occupancy": lambda: {n: {s: occupancy(gpu, n, s) for s in (2, 4)} for n in networks},
        "figure3": lambda: time_figure3(data, with_bp=True),
        "figure3_without_bp": lambda: time_figure3(data, with_bp=False),
        "updates_per_s_by_trials_per_multiprocessor": by_width,
        "updates_per_s_by_samples_per_warp": by_samples,
        "us_per_update_of_a_trial_alone_by_t": lambda: {
            n: {t: alone(n, t) for t in (1, 16, 64)} for n in networks
        },
        "us_per_update_of_bp": lambda: {n: time_backprop(data, n) for n in networks},
        "us_per_update_of_16_trials_t_16": lambda: {
            n: {"ours_us": alone(n, 16, 16), **time_stack(data, n, 16)} for n in networks
        },
        "share_of_time_in_which_the_gpu_computes": lambda: busy_share(data),
    }


def benchmark(data: DataSet, path: Path) -> bool:
    """Measures all figures, prints them, and writes the file anew after each. One that fails does
    not keep the others from being measured. Returns True if all were measured."""
    found: dict[str, Any] = {"gpu": asdict(gpu_limits()), "torch": torch.__version__}
    complete = True
    for name, measure in figures(data).items():
        try:
            found[name] = measure()
        except (CudaError, RuntimeError) as error:
            found[name], complete = f"failed: {error}", False
        print(f"{name}: {json.dumps(found[name])}", flush=True)
        path.write_text(json.dumps(found, indent=1) + "\n")
    return complete


def command(path: Path) -> int:
    """Runs the benchmark, and returns the exit code."""
    if not torch.cuda.is_available():
        print("torch finds no GPU here: this benchmark measures one", file=sys.stderr)
        return 2
    complete = benchmark(DataSet(drawn_digits(), torch.device("cuda", 0)), path)
    print(f"Written to {path}.")
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(command(Path(sys.argv[1] if len(sys.argv) > 1 else "gpu-benchmark.json")))
