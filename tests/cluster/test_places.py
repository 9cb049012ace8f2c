"""Tests of workers that train several shards at the same time: how many a GPU is given, which free
place is filled first, and which workers a sweep says it uses. Oracle: counts by hand.

`test_on_ray` runs such workers. No GPU was at hand for these tests.
"""

import pytest
import torch

from cluster.driver.crew import in_words
from cluster.driver.events import WorkerInfo
from cluster.driver.pools.hands import Hand, Try, vacancies_of
from cluster.driver.pools.pool import Vacancy
from pcworker.machine.device import places
from pcworker.machine.places import MOST_PLACES, places_on_gpu

GIB = 2**30


@pytest.mark.parametrize(
    ("multiprocessors", "free_gib", "share", "expected"),
    [
        (132, 139, 1.0, 52),  # 528 blocks are 52 shards of 10 trials
        (132, 139, 0.5, 26),
        (132, 4, 1.0, 4),  # the memory is for 4
        (132, 4, 0.5, 2),
        (58, 22, 1.0, 22),
        (58, 22, 0.1, 2),
        (10, 1, 1.0, 1),
        (10**6, 10**6, 1.0, MOST_PLACES),
    ],
)
def test_a_gpu_has_as_many_places_as_shards_fill_it(
    multiprocessors: int, free_gib: int, share: float, expected: int
) -> None:
    assert places_on_gpu(multiprocessors, free_gib * GIB, share) == expected


def test_a_cpu_has_one_place() -> None:
    assert places(torch.device("cpu"), 1.0) == 1


def hand(name: str, places: int, *running: str, slow: bool = False) -> Hand:
    """A worker on which attempts run. The attempt "alone" is to be alone."""
    runs = [Try(attempt, attempt == "alone") for attempt in running]
    return Hand(None, WorkerInfo(name, 1, name, "a device", places), None, slow, runs)


def test_gpu_workers_are_filled_before_cpu_workers_and_evenly() -> None:
    cpu, busy, idle = hand("cpu", 1, slow=True), hand("busy", 3, "one", "two"), hand("idle", 3)
    assert vacancies_of([cpu, busy, idle]) == [
        Vacancy(idle.info, empty=True),
        Vacancy(busy.info, empty=False),
        Vacancy(cpu.info, empty=True, slow=True),
    ]


def test_a_worker_is_full_if_all_places_are_taken_or_a_shard_is_to_be_alone() -> None:
    assert vacancies_of([hand("full", 2, "one", "two"), hand("kept", 2, "alone")]) == []


def test_a_worker_on_which_an_attempt_has_failed_gets_no_more_work() -> None:
    failed = hand("failed", 3, "one")
    failed.leaving = True
    assert vacancies_of([failed]) == []


def test_the_workers_of_a_sweep_are_said_in_words() -> None:
    gpu = WorkerInfo("h", 1, "n", "cuda: NVIDIA H100", 11)
    small = WorkerInfo("h", 1, "n", "cuda: NVIDIA T4")
    cpu = WorkerInfo("h", 1, "n", "cpu: a processor")
    assert in_words([cpu]) == "1 CPU worker"
    assert in_words([*[cpu] * 6, gpu]) == (
        "1 GPU worker (NVIDIA H100, 11 shards at once) and 6 CPU workers"
    )
    assert in_words([gpu, gpu, small]) == (
        "1 GPU worker (NVIDIA T4) and 2 GPU workers (NVIDIA H100, 11 shards at once)"
    )
