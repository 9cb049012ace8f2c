"""The rounds of a benchmark on one core: the order of the contenders, and the core's own speed."""

import os
import time
from collections.abc import Callable, Sequence

import torch

from jobs.benchmark.arithmetic import Times, rotated
from pcworker.clock.turns import without_garbage_collection
from pcworker.machine.device import device_name

PRODUCT = 768
"""The number of rows and of columns of the matrices whose product measures the core's rate."""
CACHED = 4096
"""The number of float32 values in 16 KiB, which fit in a core's first cache."""
SIGMOIDS = 500
"""How many times these values are all put through a sigmoid."""

RunBlock = Callable[[], Times]
"""A function that runs a contender's next block of weight updates and returns its times."""


def one_core() -> str:
    """Limits torch to one thread, and this process and those that it starts to one core. Returns
    the core's name."""
    torch.set_num_threads(1)
    name = device_name(torch.device("cpu"))
    if not hasattr(os, "sched_setaffinity"):
        return name
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return f"{name}, core {core}"


class Core:
    """The best speed of this core that torch reaches."""

    def __init__(self) -> None:
        self._a, self._b = torch.rand(PRODUCT, PRODUCT), torch.rand(PRODUCT, PRODUCT)
        self._out = torch.empty(PRODUCT, PRODUCT)
        self._cached = torch.rand(CACHED)

    def gflops(self) -> float:
        """The rate in a large product, in 1e9 operations per second. A multiply-add is two
        operations."""
        started = time.perf_counter()
        torch.mm(self._a, self._b, out=self._out)
        return 2e-9 * PRODUCT**3 / (time.perf_counter() - started)

    def ns_per_sigmoid(self) -> float:
        """The nanoseconds that a sigmoid takes for values in the first cache."""
        started = time.perf_counter()
        for _ in range(SIGMOIDS):
            self._cached.sigmoid_()
        return 1e9 * (time.perf_counter() - started) / (SIGMOIDS * CACHED)


def take_rounds(
    blocks: Sequence[RunBlock], rounds: int, core: Core, report: Callable[[int], None]
) -> tuple[list[list[Times]], list[tuple[float, float]]]:
    """Times every contender's next block in each round.

    blocks  the contenders' blocks
    report  is called after each round with the number of rounds done, while nothing is timed

    Returns the times of every contender, by round, and the rates of the core in each round: GFLOP/s
    and nanoseconds per sigmoid.
    """
    times: list[list[Times]] = [[] for _ in blocks]
    rates = []
    with without_garbage_collection():
        for turn in range(rounds):
            rates.append((core.gflops(), core.ns_per_sigmoid()))
            for place in rotated(range(len(blocks)), turn):
                times[place].append(blocks[place]())
            report(turn + 1)
    return times, rates
