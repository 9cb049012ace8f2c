"""Tests of the kernel of a GPU, on an emulator of one. Oracle: the kernel of the CPU, `phases.c`,
and the defined digests of `jobs.verify`.

The emulator runs the source of the GPU on a CPU, thread by thread, in several orders. What only a
GPU can show is in tests/gpu.
"""

import ctypes
from itertools import cycle

import numpy as np
import pytest
import torch
from emulated_device import H100_BYTES, EmulatedDevice
from whole_shards import EPOCHS, NETWORKS, digits, heed, known, trained, trials

from jobs.verify.digests import defined
from jobs.verify.gpu import trainings_on
from pcworker.data.batches import chunk_sizes, weights_are_checked
from pcworker.data.dataset import DataSet
from pcworker.data.randomness import Noise
from pcworker.kernels.cuda import kernel as cuda_kernel
from pcworker.kernels.cuda.distances import distances
from pcworker.kernels.cuda.kernel import CudaKernel, stretches
from pcworker.kernels.cuda.launch import Launcher, bytes_needed, fits
from pcworker.kernels.cuda.minibatches import Gatherer
from pcworker.kernels.fixed.kernel import FixedKernel
from pcworker.kernels.kernel import Kernel, Task
from pcworker.trials.configuration import Configuration, configuration
from pcworker.trials.measures import distance, to_numpy
from pcworker.trials.trial import Trial

SHARDS = [
    (NETWORKS[0], "ascending"),
    pytest.param(NETWORKS[1], "shuffled", marks=pytest.mark.long),  # test_ptx.py has this shard
    (NETWORKS[2], "reversed"),
    (NETWORKS[3], "shuffled"),
    pytest.param(NETWORKS[4], "reversed", marks=pytest.mark.long),  # test_ptx.py has this shard
]


@pytest.mark.parametrize(("common", "order"), SHARDS, ids=str)
def test_a_shard_has_the_results_of_the_cpu(common: dict[str, object], order: str) -> None:
    data = DataSet(digits(130), torch.device("cpu"))
    task = Task(data, trials(common))
    kernel = CudaKernel(task, EmulatedDevice(order))
    ours = trained(kernel, list(task.trials), data.samples)
    assert ours == trained(FixedKernel(task), list(task.trials), data.samples)
    assert len(ours) == 8  # with the copy of a twin
    wide = common["network"] == "784-40-33-10"
    assert kernel.name == ("phases on a GPU" if wide else "samples on a GPU")


@torch.no_grad()
def taken_over(kernel: Kernel, last: Kernel, gone: list[Trial]) -> Kernel:
    """A kernel that has got all that another one has trained, without the trials that are gone."""
    kernel.drop(gone)
    for trial, network in kernel.networks.items():
        other = last.networks[trial]
        network.squares.copy_(other.squares)
        for ours, theirs in zip(network.parameters(), other.parameters(), strict=True):
            for parameter, value in zip(ours, theirs, strict=True):
                parameter.copy_(value)
    return kernel


@pytest.mark.parametrize(
    "common", [NETWORKS[1], pytest.param(NETWORKS[3], marks=pytest.mark.long)], ids=str
)
def test_an_epoch_may_be_divided_between_gpus_and_cpus(
    common: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: a CPU, undisturbed. Each kernel stops as soon as it can: a GPU after 2 updates."""
    monkeypatch.setattr(cuda_kernel, "MOST_UPDATES", 2)
    data = DataSet(digits(130), torch.device("cpu"))
    task, device = Task(data, trials(common)), EmulatedDevice("shuffled")
    gpu, cpu = lambda: CudaKernel(task, device), lambda: FixedKernel(task)
    make = cycle([gpu, gpu, cpu])
    kernel, lost, places = next(make)(), dict[Trial, int](), list[int]()
    for epoch in range(1, EPOCHS + 1):
        done = 0
        while done < task.updates:
            for look in kernel.train_epoch(epoch, done, lambda: True):
                heed(look, epoch, kernel, list(task.trials), lost)
                done = look.updates
            places.append(done)
            gone = [trial for trial in lost if trial in task.trials]
            kernel = taken_over(next(make)(), kernel, gone)
    assert places[:2] == [2, 4] and len(places) > 2 * EPOCHS
    ours = known(kernel, lost, data.samples)
    assert ours == trained(FixedKernel(task), list(task.trials), data.samples)


def test_a_network_without_room_in_shared_memory_is_trained_another_way_with_the_same_bits() -> (
    None
):
    data = DataSet(digits(45), torch.device("cpu"))
    task = Task(data, [Trial(configuration(network="784-32-32-10", rule="Z-IL"), 1)])
    found = {}
    for shared_bytes in (H100_BYTES, bytes_needed(task.config) - 1):
        kernel = CudaKernel(task, EmulatedDevice(shared_bytes=shared_bytes))
        found[kernel.name] = trained(kernel, list(task.trials), data.samples)
    assert list(found) == ["samples on a GPU", "phases on a GPU"]
    assert found["samples on a GPU"] == found["phases on a GPU"]


@pytest.mark.long  # test_ptx.py has some for every run
@pytest.mark.parametrize(
    "check", trainings_on(EmulatedDevice("shuffled")), ids=lambda check: check.title
)
def test_trainings_have_the_defined_digests(check) -> None:  # type: ignore[no-untyped-def]
    assert check.digest(None) == defined()[check.title]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("network", ["784-10", "784-32-10", "784-5-6-7-10"])
def test_the_size_of_shared_memory_is_that_of_the_source(network: str, dtype: str) -> None:
    config = configuration(network=network, rule="Z-IL", dtype=dtype, batch_size=13)
    found = ctypes.c_int64()
    program = Launcher(EmulatedDevice(), config)._program
    program.launch("shared_bytes", 1, 1, 0, [ctypes.addressof(found)])
    assert bytes_needed(config) == found.value


def test_which_networks_a_warp_can_hold() -> None:
    def fit(shared_bytes: int = H100_BYTES, **fields: object) -> bool:
        config: Configuration = configuration(rule="Z-IL", **fields)  # type: ignore[arg-type]
        return fits(config, shared_bytes)

    assert fit(network="784-32-32-32-10")
    assert fit(network="784-32-32-32-10", shared_bytes=99 * 1024)
    assert not fit(network="784-33-10")
    assert not fit(network="784-32-32-32-32-32-10")
    assert not fit(network="784-32-10", batch_size=500)


@pytest.mark.parametrize(("samples", "batch_size"), [(60_000, 20), (130, 7), (5, 7), (14_041, 20)])
def test_the_gpu_looks_for_nonfinite_weights_where_the_cpu_does(
    samples: int, batch_size: int
) -> None:
    made, looks = 0, []
    for updates, _ in chunk_sizes(samples, batch_size):
        made += updates
        looks += [made] if weights_are_checked(made) else []
    looks = sorted({*looks, made})
    ours = stretches(samples, batch_size)
    assert [part.done + at for part in ours for at in part.looks] == looks
    assert sum(part.updates * part.batch for part in ours) == samples


@pytest.mark.parametrize(("first", "updates", "batch"), [(0, 3, 7), (7, 3, 7), (21, 1, 2)])
def test_noise_has_the_bits_of_the_cpus(first: int, updates: int, batch: int) -> None:
    config = configuration(network="784-5-6-10", rule="Z-IL", dtype="float64")
    noise = Noise(9, 2, [5, 6])
    if first:
        noise.draw(1, first)
    ours = Gatherer(EmulatedDevice("reversed"), config).noise(9, 2, first, updates, batch)
    for drawn, expected in zip(ours, noise.draw(updates, batch), strict=True):
        assert torch.equal(drawn, expected)


@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e19])
def test_distances_have_the_bits_of_the_cpus_where_squares_over_and_underflow(scale: float) -> None:
    source = np.random.default_rng(3)
    networks = [
        [
            [torch.from_numpy(scale**7 * source.standard_normal(shape)) for shape in shapes]
            for shapes in (((3, 5), (3,)), ((5, 200), (5,)))
        ]
        for _ in range(2)
    ]
    ours, theirs = networks
    found = distances(EmulatedDevice("shuffled"), [(ours, theirs), (ours, ours)], "float64")
    assert found == [distance(to_numpy(a), to_numpy(b)) for a, b in ((ours, theirs), (ours, ours))]
