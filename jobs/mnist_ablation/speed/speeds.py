"""Measures the speeds of this machine that `cost` needs, for `calibration`.

`python -m jobs.mnist_ablation.speed.speeds` times each part of a shard's work, by its core's time
for this process, and prints the fields of `cost.Speeds` as JSON, in microseconds. It runs in a
process of its own, so that planning imports no torch. The digits are made up, with MNIST's share of
zero pixels, so that nothing is fetched.
"""

import json
import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch

from jobs.mnist_ablation.cost import TABLE, trial_cost
from jobs.mnist_ablation.speed.look import INK
from pcworker.data.batches import Chunk
from pcworker.data.dataset import DataSet
from pcworker.data.mnist import Digits
from pcworker.equations.rules import IL, Z_IL
from pcworker.kernels.fixed.evaluation import FixedTest
from pcworker.kernels.fixed.gathered import PixelLists, listed
from pcworker.kernels.fixed.kernel import FixedKernel
from pcworker.kernels.fixed.library import built
from pcworker.kernels.fixed.reference import FixedBackprop
from pcworker.kernels.fixed.trial import FixedTrial
from pcworker.kernels.kernel import Task
from pcworker.kernels.stack import Stack
from pcworker.machine.device import prepare_device
from pcworker.trials.configuration import Configuration, configuration
from pcworker.trials.measures import distance, to_numpy
from pcworker.trials.trial import Trial

_NETWORK = "784-32-32-10"
WIDTH = 24
"""The number of trials in the stack of torch's operations that is timed."""
SECONDS = 0.4
"""The least time for which each part of the work is repeated."""


def measure() -> dict[str, object]:
    """Measures the fields of `cost.Speeds`, in microseconds."""
    data = DataSet(_digits(), prepare_device("cpu", gpus=0, cpus=1))
    short = Trial(configuration(network=_NETWORK, rule=Z_IL.name), 0)
    config, twin = short.configuration, short.twin
    noisy = Trial(configuration(network=_NETWORK, rule=Z_IL.name, sigma=0.1), 0)
    quiet, drawing = (_batch_seconds(Task(data, [trial])) for trial in (short, noisy))
    plain = _chunk(data, config)
    updates, build = len(plain.inputs), built(config.dtype)
    backprop, lists, test = FixedBackprop(twin), listed(plain, build), FixedTest(data, config)
    parameters = backprop.parameters()
    apart = to_numpy(parameters)
    shared = trial_cost(twin.configuration) / TABLE.backprop
    reference = _seconds(lambda: backprop.train(_chunk(data, config), 1e-3)) / updates
    return {
        "compiled": _kernel(lambda trial: _compiled_seconds(trial, lists) / updates),
        "torch": _kernel(lambda trial: _stack_seconds(trial, plain, WIDTH) / updates / WIDTH),
        "backprop": 1e6 * reference / shared,
        "batch": 1e6 * quiet,
        "noise": 1e6 * max(0.0, drawing - quiet) / sum(config.widths[1:-1]),
        "epoch": 1e6 * _seconds(lambda: (test.error(parameters), distance(apart, apart))),
        "shard": TABLE.shard,  # it depends on the store
    }


def _batch_seconds(task: Task) -> float:
    """The seconds of making a minibatch, over an epoch."""
    kernel, updates = FixedKernel(task), -(-task.data.samples // task.config.batch_size)
    return _seconds(lambda: list(map(len, kernel.minibatches(1)))) / updates


def _kernel(seconds: Callable[[Trial], float]) -> dict[str, float]:
    """The fields of `cost.KernelCosts`, computed from the time of a short and of a long trial.

    seconds  gives the seconds per weight update of a trial
    """
    cells = ({"rule": Z_IL.name}, {"rule": IL.name, "t": 64, "gamma": 0.1})
    short, long = (Trial(configuration(network=_NETWORK, **cell), 0) for cell in cells)
    low, high = 1e6 * seconds(short), 1e6 * seconds(long)
    widths = short.configuration.widths
    steps = long.configuration.last_step - short.configuration.last_step
    step = max(0.0, high - low) / steps
    update = max(0.0, low - step * short.configuration.last_step)
    return {
        "per_weight": update / sum(n * m for n, m in pairwise(widths)),
        "per_unit": step / sum(widths[1:-1]),
        "calls": 0.0,
    }


def _stack_seconds(trial: Trial, chunk: Chunk, width: int) -> float:
    few = Chunk(chunk.inputs[:10], chunk.targets[:10], [])
    stack = Stack([Trial(trial.configuration, seed) for seed in range(width)], chunk.inputs.device)
    by_seed = dict.fromkeys(range(width), few)
    return _seconds(lambda: stack.train(by_seed, 1e-3)) * len(chunk.inputs) / len(few.inputs)


def _compiled_seconds(trial: Trial, lists: PixelLists) -> float:
    network = FixedTrial(trial)
    return _seconds(lambda: network.train(lists, 1e-3))


def _chunk(data: DataSet, config: Configuration) -> Chunk:
    """The second chunk of the epoch, because the first has one update only."""
    chunks = data.chunks(config, 0, 1, noisy=False)
    next(chunks)
    return next(chunks)


def _seconds(work: Callable[[], object]) -> float:
    """The median time of the work, in seconds, over repetitions for at least SECONDS.

    One repetition before them does not count.
    """
    work()
    taken: list[float] = []
    while sum(taken) < SECONDS or len(taken) < 3:
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return sorted(taken)[len(taken) // 2]


def _digits() -> Digits:
    source = np.random.default_rng(0)

    def images(count: int) -> np.ndarray:
        drawn = source.integers(1, 256, (count, 784), np.uint8)
        drawn[source.random((count, 784)) > INK] = 0
        return drawn

    train, test = (source.integers(0, 10, count, np.uint8) for count in (4000, 10_000))
    return Digits(images(4000), train, images(10_000), test)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(measure()))
