"""Rounds of a benchmark on one core: who is timed when, and what the core itself can do."""

import os
import time
from collections.abc import Callable, Sequence

import torch

from jobs.benchmark.arithmetic import Times, rotated
from pcworker.clock.turns import without_garbage_collection
from pcworker.machine.device import device_name

PRODUCT = 768
"""Rows and columns of the product by which the core's rate is found."""
CACHED = 4096
"""float32 numbers that lie in a core's first cache, 16 KiB."""
SIGMOIDS = 500
"""Times that they are all put through a sigmoid."""

TimedBlock = Callable[[], Times]
"""Somebody's next block of weight updates."""


def one_core() -> str:
    """Leaves torch one thread, and this process and those that it starts one core: its name."""
    torch.set_num_threads(1)
    name = device_name(torch.device("cpu"))
    if not hasattr(os, "sched_setaffinity"):
        return name
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return f"{name}, core {core}"


class Core:
    """What this core can do at best, as far as torch shows it."""

    def __init__(self) -> None:
        self._a, self._b = torch.rand(PRODUCT, PRODUCT), torch.rand(PRODUCT, PRODUCT)
        self._out = torch.empty(PRODUCT, PRODUCT)
        self._cached = torch.rand(CACHED)

    def gflops(self) -> float:
        """10^9 operations per second in a large product; a multiply-add is two."""
        started = time.perf_counter()
        torch.mm(self._a, self._b, out=self._out)
        return 2e-9 * PRODUCT**3 / (time.perf_counter() - started)

    def ns_per_sigmoid(self) -> float:
        """Of numbers in the first cache."""
        started = time.perf_counter()
        for _ in range(SIGMOIDS):
            self._cached.sigmoid_()
        return 1e9 * (time.perf_counter() - started) / (SIGMOIDS * CACHED)


def take_rounds(
    blocks: Sequence[TimedBlock], rounds: int, core: Core, report: Callable[[int], None]
) -> tuple[list[list[Times]], list[tuple[float, float]]]:
    """The times of every block, by round; and by round what the core can do: GFLOP/s, and
    nanoseconds per sigmoid. `report` is told how many rounds are done, while nothing is timed."""
    times: list[list[Times]] = [[] for _ in blocks]
    rates = []
    with without_garbage_collection():
        for turn in range(rounds):
            rates.append((core.gflops(), core.ns_per_sigmoid()))
            for place in rotated(range(len(blocks)), turn):
                times[place].append(blocks[place]())
            report(turn + 1)
    return times, rates
