"""Looks for a third of a second how fast this machine is beside that of the cost table.

For a short sweep that is enough: `speeds` measures more, and takes longer than such a sweep may
wait. A trial is trained by `phases.c`, in as many threads as workers will compute. What
torch.autograd does is calls, and calls of NumPy stand for them. This imports no torch.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from ctypes import Array, byref, c_void_p
from dataclasses import replace
from functools import partial

import numpy as np

from jobs.mnist_ablation.cost import TABLE, Speeds, trial_cost
from pcworker.equations.rules import IL
from pcworker.errors import InputError
from pcworker.kernels.c_types import OPERATION_CODES, Batches, integers
from pcworker.kernels.fixed.library import F_CODES, Build, built
from pcworker.kernels.program import program
from pcworker.machine.processor import VECTOR
from pcworker.trials.configuration import configuration
from pcworker.trials.trial import Trial

SPENT_S = 0.15
"""The seconds for which each of the two kinds of work is repeated."""
INK = 0.19
"""The share of MNIST's pixels that are not 0."""
TIMED = configuration(network="784-32-32-10", rule=IL.name, t=16, gamma=0.1)
"""The trial of which a weight update is timed."""
CALLS_US = 17.0
"""What the calls below take on the machine of the table, in microseconds."""


def scaled_speeds(workers: int) -> Speeds | None:
    """The speeds of the table, scaled to one core of this machine while `workers` threads compute.
    None if `phases.c` cannot be compiled here."""
    try:
        build = built("float32")
    except InputError:
        return None
    with ThreadPoolExecutor(workers) as threads:
        looks = [threads.submit(_microseconds, _arithmetic(build)) for _ in range(workers)]
        took = sum(look.result() for look in looks) / workers
    return scaled(took / trial_cost(TIMED), _microseconds(_calls) / CALLS_US)


def scaled(arithmetic: float, calls: float) -> Speeds:
    """The speeds of a machine on which arithmetic and calls take so many times as long."""
    kernels = {
        name: replace(costs, **{part: arithmetic * value for part, value in vars(costs).items()})
        for name, costs in (("compiled", TABLE.compiled), ("torch", TABLE.torch))
    }
    return Speeds(
        **kernels,
        backprop=calls * TABLE.backprop,
        batch=arithmetic * TABLE.batch,
        noise=arithmetic * TABLE.noise,
        epoch=arithmetic * TABLE.epoch,
        shard=calls * TABLE.shard,
    )


def _arithmetic(build: Build) -> Callable[[], None]:
    """A weight update of a trial, by `phases.c`, with about as many pixels that are 0 as MNIST."""
    config = TIMED
    kept = _arrays(config.widths, config.batch_size)
    codes = [(OPERATION_CODES.index(name), l) for name, l in program(Trial(config, 0))]
    by_layer = {name: _addresses(arrays) for name, arrays in kept.items()}
    squares = np.zeros((config.batch_size, 10))
    trial = build.trial(
        l_max=config.l_max,
        instructions=len(codes),
        f=F_CODES.index(config.activation),
        gamma=config.gamma,
        rate=1e-3,
        width=integers(config.widths),
        stride=integers(_strides(config.widths)),
        program=integers([number for code in codes for number in code]),
        squares=squares.ctypes.data,
        **by_layer,
    )
    lists, targets = _minibatch(build, config.batch_size), np.zeros((20, 10), np.float32)
    batches = Batches(1, 20, *(array.ctypes.data for array in lists), targets.ctypes.data, None)

    def work(*kept: object) -> None:
        build.code.train(byref(trial), byref(batches))

    # the structs hold bare addresses, which keep nothing alive
    return partial(work, kept, squares, lists, targets)


def _strides(widths: Sequence[int]) -> list[int]:
    return [-(-width // VECTOR) * VECTOR for width in widths]


def _arrays(widths: Sequence[int], batch: int) -> dict[str, list[np.ndarray]]:
    """The arrays of `Trial` of `phases.c`, by name and by layer."""
    source, strides = np.random.default_rng(0), _strides(widths)
    shapes = [(n, stride) for n, stride in zip(widths[:-2], strides[1:-1], strict=True)]
    shapes.append((widths[-1], strides[-2]))
    theta = [source.uniform(-0.1, 0.1, shape).astype(np.float32) for shape in shapes]
    above = zip(widths[1:-1], strides, strict=False)
    rows = [(batch, stride) for stride in strides[:-1]]
    reals = {
        name: [np.zeros(shape, np.float32) for shape in rows]
        for name in ("a", "d", "fx", "mu", "eps", "buffer")
    }
    counters = {n: [np.zeros(shape, np.int32) for shape in rows] for n in ("phi", "quiet")}
    turned = [np.zeros(shape, np.float32) for shape in above]
    return {"theta": theta, "transposed": turned, **reals, **counters}


def _minibatch(build: Build, batch: int) -> list[np.ndarray]:
    """The lists of a made-up minibatch."""
    source = np.random.default_rng(0)
    x = source.random((batch, 784), np.float32)
    x[source.random(x.shape) > INK] = 0
    entry = [("at", np.int32), ("value", np.float32)]
    kinds = ((batch + 1, np.int32), (x.size + 1, entry), (785, np.int32), (x.size + 1, entry))
    lists = [np.empty(count, kind) for count, kind in kinds]
    room = np.empty(784, np.int32)
    addresses = [array.ctypes.data for array in (x, *lists, room)]
    build.code.gather(1, batch, 784, *addresses)
    return lists


def _addresses(arrays: Sequence[np.ndarray]) -> "Array[c_void_p]":
    return (c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))


def _calls() -> None:
    """Some calls of Python, of NumPy and of small arrays."""
    small = np.zeros(8, np.float32)
    for _ in range(30):
        small = np.add(small, small).reshape(2, 4).reshape(8)


def _microseconds(work: Callable[[], None]) -> float:
    """The median time of some work, in microseconds, over repetitions for SPENT_S."""
    work()
    taken: list[float] = []
    stop = time.perf_counter() + SPENT_S
    while not taken or time.perf_counter() < stop:
        started = time.thread_time()
        work()
        taken.append(time.thread_time() - started)
    return 1e6 * sorted(taken)[len(taken) // 2]
