"""What is timed on a GPU: launches, epochs of Figure 3, backpropagation, stacks by torch.bmm."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
import torch

from jobs.mnist_ablation.sweep import (
    GAMMAS,
    PAPER_SEEDS,
    SIGMAS,
    STEPS_OF_THE_PAPER,
    mnist_ablation,
)
from pcworker.data.batches import Batch
from pcworker.data.dataset import DataSet
from pcworker.data.mnist import Digits
from pcworker.data.streams import Stream
from pcworker.kernels.backprop import Backprop
from pcworker.kernels.cuda.kernel import CudaKernel
from pcworker.kernels.cuda.launch import SAMPLES, SAMPLES_CU, Launcher, bytes_needed, threads_of
from pcworker.kernels.cuda.memory import TrialsMemory
from pcworker.kernels.cuda.minibatches import Gatherer, on_gpu
from pcworker.kernels.cuda.reference import CudaBackprop
from pcworker.kernels.cuda.torch_gpu import TorchGpu
from pcworker.kernels.kernel import Task
from pcworker.kernels.program import program
from pcworker.kernels.stack import Stack
from pcworker.trials.configuration import configuration
from pcworker.trials.trial import Trial

PAPERS_NETWORKS = ("784-32-10", "784-32-32-10", "784-32-32-32-10")
EPOCHS_OF_THE_PAPER, UPDATES, ROUNDS = 64, 500, 3
SHARE_OF_PIXELS = 0.191
"""The share of MNIST's pixels that are not 0."""


def drawn_digits(samples: int = 60_000, tests: int = 10_000) -> Digits:
    """Images and labels of MNIST's shape and sparsity."""

    def images(count: int, purpose: str) -> np.ndarray:
        drawn = Stream(0, purpose).integers(count * 784).reshape(count, 784)
        shown = (drawn >> np.uint64(32)) % np.uint64(1000) < np.uint64(1000 * SHARE_OF_PIXELS)
        return np.where(shown, drawn % np.uint64(255) + np.uint64(1), np.uint64(0)).astype(np.uint8)

    def labels(count: int, purpose: str) -> np.ndarray:
        return (Stream(0, purpose).integers(count) % np.uint64(10)).astype(np.uint8)

    return Digits(
        images(samples, "train"), labels(samples, "labels"),
        images(tests, "test"), labels(tests, "test labels"),
    )  # fmt: skip


def seconds(work: Callable[[], object]) -> float:
    """The time of some work, and of the GPU that it keeps busy."""
    torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def figure3_trials(network: str) -> list[Trial]:
    """The trials of the paper's sweep with one network."""
    sweep = mnist_ablation(
        networks=[network],
        seeds=[int(seed) for seed in PAPER_SEEDS.split(",")],
        t=[None if t == "l" else int(t) for t in STEPS_OF_THE_PAPER.split(",")],
        gamma=[float(gamma) for gamma in GAMMAS.split(",")],
        sigma=[float(sigma) for sigma in SIGMAS.split(",")],
    )
    return list(sweep.trials)


def time_figure3(data: DataSet, with_bp: bool) -> dict[str, Any]:
    """Seconds of an epoch of the paper's sweep, and of measuring all its trials after it.

    All trials of a network are one task, and the three tasks are trained at the same time.
    """
    tasks = []
    for network in PAPERS_NETWORKS:
        trials = [t for t in figure3_trials(network) if with_bp or t.configuration.rule != "BP"]
        tasks.append(Task(data, trials))
    kernels = [CudaKernel(task, TorchGpu(data.device)) for task in tasks]
    trial_count = sum(len(task.trials) for task in tasks)
    _together(kernels, 1)  # compiles, and records graphs
    alone = {
        network: seconds(lambda kernel=kernel: _train(kernel, 2))  # type: ignore[misc]
        for network, kernel in zip(PAPERS_NETWORKS, kernels, strict=True)
    }
    epoch = median(seconds(lambda: _together(kernels, 3)) for _ in range(ROUNDS))
    measuring = sum(seconds(lambda kernel=kernel: _measure(kernel)) for kernel in kernels)  # type: ignore[misc]
    return {
        "trials": trial_count,
        "epoch_s": epoch,
        "epoch_alone_s": alone,
        "measuring_s": measuring,
        "whole_sweep_s": EPOCHS_OF_THE_PAPER * (epoch + measuring),
    }


def _together(kernels: Sequence[CudaKernel], epoch: int) -> None:
    with ThreadPoolExecutor(len(kernels)) as threads:
        for training in [threads.submit(_train, kernel, epoch) for kernel in kernels]:
            training.result()


def _train(kernel: CudaKernel, epoch: int) -> None:
    for _ in kernel.train_epoch(epoch):
        pass


def _measure(kernel: CudaKernel) -> None:
    for trial in kernel.networks:
        kernel.test_error(trial)
        kernel.distance(trial)


class TimedLaunches:
    """Launches of equal trials, over the minibatches of one seed."""

    def __init__(self, data: DataSet, network: str, **cell: Any) -> None:
        self.gpu = TorchGpu(data.device)
        self._config = configuration(network=network, **cell)
        images = on_gpu(data.train_images, data.train_labels)
        order = torch.arange(UPDATES * self._config.batch_size).reshape(UPDATES, -1)
        with self.gpu.stream():
            gatherer = Gatherer(self.gpu, self._config)
            noise = gatherer.noise(0, 1, 0, *order.shape)
            self._batches = {0: gatherer.minibatches(images, order, noise)}
        self.gpu.wait()

    def time(self, width: int, samples: int = SAMPLES) -> float:
        """Seconds of UPDATES updates of `width` trials in one launch."""
        # sigma makes trials of one seed unlike, and costs nothing
        trials = [
            Trial(replace(self._config, sigma=1e-3 + place / 1e6), 0) for place in range(width)
        ]
        with self.gpu.stream():
            launcher = Launcher(self.gpu, self._config, samples)
            memory = TrialsMemory(trials, self.gpu.device, launcher.whole)
            structs = memory.structs([(trial, program(trial)) for trial in trials], 1e-3)
            prepared = launcher.prepare(structs, self._batches)
        self.gpu.wait()

        def launch() -> None:
            with self.gpu.stream():
                launcher.start(prepared)
            self.gpu.wait()

        launch()
        return median(seconds(launch) for _ in range(ROUNDS))


def time_backprop(data: DataSet, network: str) -> dict[str, float]:
    """Microseconds of an update of backpropagation: our recorded one for three seeds at once, and
    torch's own, of one seed, with a recorded CUDA graph and without."""
    gpu, config = TorchGpu(data.device), configuration(network=network, rule="BP")
    trials = [Trial(config, seed) for seed in range(3)]
    images = on_gpu(data.train_images, data.train_labels)
    with gpu.stream():
        gatherer = Gatherer(gpu, config)
    gpu.wait()
    ours = CudaBackprop(gpu, trials, images, gatherer)
    order = torch.arange(UPDATES * config.batch_size).reshape(UPDATES, -1)
    orders = dict.fromkeys(range(3), order)
    ours.train(orders, config.alpha, [UPDATES])
    recorded = seconds(lambda: ours.train(orders, config.alpha, [UPDATES]))
    trial = Trial(replace(config, sums="library"), 0)
    batch = next(data.batches(config, 0, 1, noisy=False))
    plain = _plain_and_recorded(lambda: Backprop(trial, data.device), batch)
    return {"fixed_3_seeds_us": 1e6 * recorded / UPDATES, **plain}


def time_stack(data: DataSet, network: str, width: int) -> dict[str, float]:
    """Microseconds of an update of `width` IL trials, t = 16, by torch.bmm."""
    config = configuration(network=network, rule="IL", t=16, gamma=0.5, sums="library")
    trials = [Trial(replace(config, gamma=0.5 + place / 1e4), 0) for place in range(width)]
    batch = next(data.batches(config, 0, 1, noisy=False))
    return _plain_and_recorded(lambda: _OfStack(Stack(trials, data.device)), batch)


class _OfStack:
    """A stack of trials of seed 0, with the `update` of `Backprop`."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def update(self, batch: Batch, rate: float) -> None:
        """Makes an update of all trials."""
        self._stack.update({0: batch}, rate)


def _plain_and_recorded(new: "Callable[[], Backprop | _OfStack]", batch: Batch) -> dict[str, float]:
    """Times the updates of a new network, and of another one, whose update is recorded: torch does
    not record an update of weights whose gradients were added up in another stream before."""
    found = {"torch_us": _us_each(_update_of(new(), batch))}
    gpu = TorchGpu(batch.inputs.device)
    try:
        with gpu.stream():
            again = gpu.recorded([_update_of(new(), batch)])
    except RuntimeError as error:  # torch refuses some operations in a capture
        print(f"left out: torch with a CUDA graph ({str(error).splitlines()[0]})")
        return found
    return found | {"graph_us": _us_each(again)}


def _update_of(network: "Backprop | _OfStack", batch: Batch) -> Callable[[], None]:
    return lambda: network.update(batch, 1e-3)


def _us_each(update: Callable[[], None], repeats: int = 50) -> float:
    """Microseconds of an update, the first one not counted."""

    def repeat() -> None:
        for _ in range(repeats):
            update()

    update()
    return 1e6 * seconds(repeat) / repeats


def occupancy(gpu: TorchGpu, network: str, samples: int) -> dict[str, int]:
    """The registers of `train_samples`, and how many of its blocks a multiprocessor runs."""
    config = configuration(network=network, rule="Z-IL")
    code = gpu.program(SAMPLES_CU, Launcher(gpu, config, samples).defines)
    threads, shared = threads_of(config, samples), bytes_needed(config, samples)
    return {
        "registers": code.registers("train_samples"),
        "local_bytes": code.local_bytes("train_samples"),
        "shared_bytes": shared,
        "blocks_at_once": code.blocks_at_once("train_samples", threads, shared),
    }


def busy_share(data: DataSet) -> float:
    """The share of an epoch of the paper's sweep, without BP, in which the GPU computes."""
    trials = [t for n in PAPERS_NETWORKS for t in figure3_trials(n) if t.configuration.rule != "BP"]
    by_network = [[t for t in trials if t.configuration.network == n] for n in PAPERS_NETWORKS]
    kernels = [CudaKernel(Task(data, some), TorchGpu(data.device)) for some in by_network]
    _together(kernels, 1)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        took = seconds(lambda: _together(kernels, 2))
    ranges = sorted(
        (event.time_range.start, event.time_range.end)
        for event in profile.events()
        if event.device_type == torch._C._autograd.DeviceType.CUDA
    )
    busy = until = 0.0
    for start, end in ranges:
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    return busy / 1e6 / took
