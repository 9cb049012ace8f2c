"""Trials that `phases.c` trains on the emulated GPU, and a copy of it that lacks a barrier."""

import ctypes
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import reference
import torch
from emulated_gpu import EmulatedGpu

from pcworker.data.batches import Chunk
from pcworker.kernels.fixed.gathered import listed
from pcworker.kernels.fixed.library import PHASES, Build, built
from pcworker.kernels.fixed.trial import FixedTrial
from pcworker.trials.configuration import configuration
from pcworker.trials.trial import Trial


def _sites() -> Iterator[str]:
    function = ""
    for match in re.finditer(
        r"^INLINE void (\w+)|PHASES\((\w+)\(", PHASES.read_text(), re.MULTILINE
    ):
        function = match[1] or function
        if match[2]:
            yield f"{function}: {match[2]}"


SITES = list(_sites())
"""The barriers of `phases.c` in the order of its text: the function, and the phase before it."""


class _Code:
    """The functions of a `Build` that training needs: one block trains a trial."""

    def __init__(self, gpu: EmulatedGpu, threads: int, dtype: str) -> None:
        self._gpu, self._threads = gpu, threads
        self.gather = built(dtype).code.gather

    def train(self, trial: Any, batches: Any) -> None:
        """The arguments are made by `byref`."""
        addresses = [ctypes.addressof(argument._obj) for argument in (trial, batches)]
        self._gpu.launch("train", 1, self._threads, 0, addresses)


def build_for(gpu: EmulatedGpu, dtype: str, threads: int) -> Build:
    """A build whose trials are trained by `train` of `phases.c`, with this many threads."""
    code: Any = _Code(gpu, threads, dtype)
    return Build(code, dtype, built(dtype).real, built(dtype).trial)


def trained(cell: dict[str, Any], network: str, build: Build) -> FixedTrial:
    """A trial after four updates of made-up pixels, most of which are 0."""
    config = configuration(
        **{"network": network, "dtype": build.dtype, "batch_size": 5, "alpha": 0.05, **cell}
    )
    trial = FixedTrial(Trial(config, 11), made=build)
    trial.train(listed(_chunk(config.widths, build.dtype), build), config.alpha)
    return trial


def _chunk(widths: tuple[int, ...], dtype: str) -> Chunk:
    source = torch.Generator().manual_seed(9)
    pixels = torch.randint(-200, 256, (4, 5, widths[-1]), generator=source).clamp(0) / 255
    targets = torch.eye(widths[0])[torch.randint(widths[0], (4, 5), generator=source)]
    noise = [torch.rand(4, 5, n, generator=source) - 0.5 for n in widths[-2:0:-1]]
    return Chunk(*(part.to(getattr(torch, dtype)) for part in (pixels, targets)), noise)


def same(ours: FixedTrial, theirs: FixedTrial) -> bool:
    """Whether all weights and errors have the same bits."""
    return reference.equal(ours.parameters(), theirs.parameters()) and torch.equal(
        ours.squares, theirs.squares
    )


def with_a_barrier_less(folder: Path) -> Path:
    """A copy of `phases.c` without the barrier whose number in SITES is in `left_out`."""
    text, barrier = PHASES.read_text(), "__syncthreads();"
    assert text.count(barrier) == 1
    parts = text.split("#define PHASES(call)")
    assert [barrier in part for part in parts] == [False, True, False]
    copy = folder / "phases.cu"
    without = text.replace(barrier, f"if (__COUNTER__ != left_out) {barrier}")
    copy.write_text(f'extern "C" {{ int left_out = -1; }}\n{without}')
    return copy


def leave_out(gpu: EmulatedGpu, site: int) -> None:
    """Lets a copy of `with_a_barrier_less` run without this barrier."""
    ctypes.c_int.in_dll(gpu.library, "left_out").value = site
