"""Measures the time and the peak memory of work on a CPU or a GPU."""

import json
import tempfile
import time
from pathlib import Path
from typing import Protocol

import torch

from pcworker.clock.turns import Action


class Stopwatch(Protocol):
    """Measures work on one device."""

    def milliseconds(self, work: Action) -> float:
        """Does the work and returns its time, from an idle device until all of it is done."""

    def peak_bytes(self, work: Action) -> int:
        """Does the work and returns its peak memory: the most bytes of tensors that it holds at
        once, without the tensors that existed before."""


class CpuStopwatch:
    """Measures time by the monotonic clock, and memory by the records of torch's profiler."""

    def milliseconds(self, work: Action) -> float:
        started = time.perf_counter_ns()
        work()
        return (time.perf_counter_ns() - started) / 1e6

    def peak_bytes(self, work: Action) -> int:
        cpu = [torch.profiler.ProfilerActivity.CPU]
        with torch.profiler.profile(activities=cpu, profile_memory=True) as profile:
            work()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trace.json"
            profile.export_chrome_trace(str(path))
            events = json.loads(path.read_text())["traceEvents"]
        records = [event for event in events if event.get("name") == "[memory]"]
        held = peak = 0
        for record in sorted(records, key=lambda event: float(event["ts"])):
            held += int(record["args"]["Bytes"])
            peak = max(peak, held)
        return peak


class CudaStopwatch:
    """Measures time by CUDA events, and memory by the peak of torch's allocator on the device."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def milliseconds(self, work: Action) -> float:
        began = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        ended = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        torch.cuda.synchronize(self._device)
        began.record()
        work()
        ended.record()
        ended.synchronize()
        elapsed: float = began.elapsed_time(ended)
        return elapsed

    def peak_bytes(self, work: Action) -> int:
        torch.cuda.synchronize(self._device)
        before = torch.cuda.memory_allocated(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        work()
        torch.cuda.synchronize(self._device)
        return torch.cuda.max_memory_allocated(self._device) - before


def stopwatch(device: torch.device) -> Stopwatch:
    """The stopwatch for `device`."""
    return CudaStopwatch(device) if device.type == "cuda" else CpuStopwatch()
