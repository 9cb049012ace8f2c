"""Tests of how many workers fit. A worker must fit wholly on one node. Oracle: counts by hand."""

import math

import pytest

from cluster.nodes.resources import (
    Growth,
    Resources,
    lack_of_room,
    ray_token,
    require_room,
    workers_that_fit,
)
from pcworker.errors import InputError


def needs(cpus: float = 1, gpus: float = 0, workers: int | None = None) -> Resources:
    return Resources(workers, cpus, gpus, "auto")


@pytest.mark.parametrize(
    ("nodes", "each", "fit"),
    [
        ([{"CPU": 2}], needs(), 2),
        ([{"CPU": 2}, {"CPU": 3}], needs(), 5),
        ([{"CPU": 1}, {"CPU": 1}], needs(cpus=2), 0),
        ([{"CPU": 3}, {"CPU": 3}], needs(cpus=2), 2),
        ([{"CPU": 8, "GPU": 1}, {"CPU": 8}], needs(gpus=1), 1),
        ([{"CPU": 8, "GPU": 1}], needs(gpus=0.5), 2),
        ([{"CPU": 8, "GPU": 1}], needs(gpus=0.1), 8),
        ([{"CPU": 8, "GPU": 4}], needs(cpus=4, gpus=1), 2),
        ([{"CPU": 1}], needs(cpus=0.1), 10),
        ([{"memory": 1e9}, {}], needs(), 0),
        ([], needs(), 0),
    ],
)
def test_workers_that_fit(nodes: list[dict[str, float]], each: Resources, fit: int) -> None:
    assert workers_that_fit(nodes, each) == fit
    for asked, enough in ((None, fit > 0), (max(1, fit), fit > 0), (fit + 1, False)):
        wanted = Resources(asked, each.cpus, each.gpus, each.device)
        if enough:
            require_room(nodes, wanted)
        else:
            with pytest.raises(InputError, match=f"cannot fit: .* on {len(nodes)} node"):
                require_room(nodes, wanted)


@pytest.mark.parametrize(
    ("nodes", "growth", "refused"),
    [
        ([{"CPU": 4}], "never", False),
        ([{"CPU": 3}], "never", True),
        ([{"CPU": 3}], "by hand", False),  # one of two workers fits
        ([{"CPU": 1}], "by hand", True),  # the nodes are too small
        ([{"CPU": 0}], "by hand", False),  # the head, whose nodes are still to come
        ([], "by hand", False),
        ([{"CPU": 1}], "on demand", False),  # only the autoscaler knows what other nodes it has
    ],
)
def test_a_cluster_that_grows_need_not_have_room_for_all_workers_now(
    nodes: list[dict[str, float]], growth: Growth, refused: bool
) -> None:
    two = needs(cpus=2, workers=2)
    if refused:
        with pytest.raises(InputError, match=r"2 workers of 2 CPU cores cannot fit"):
            require_room(nodes, two, growth)
    else:
        require_room(nodes, two, growth)


def test_a_lack_of_room_is_said_in_words() -> None:
    assert lack_of_room([{"CPU": 4}], needs(cpus=2, workers=2)) is None
    assert lack_of_room([{"CPU": 4}], needs(cpus=2)) is None
    assert lack_of_room([{"CPU": 0}, {"CPU": 3}], needs(cpus=2, workers=8)) == (
        "there is room for 1 of 8 workers of 2 CPU cores now: "
        "the cluster has 3 CPU cores and 0 GPUs on 2 nodes"
    )


@pytest.mark.parametrize(
    ("nodes", "gpu_workers", "cpu_workers", "fit"),
    [
        ([{"CPU": 8, "GPU": 1}], None, 7, True),
        ([{"CPU": 8, "GPU": 1}], None, 8, False),
        ([{"CPU": 8, "GPU": 4}], None, 5, False),
        ([{"CPU": 8, "GPU": 4}], 3, 5, True),
        ([{"CPU": 1, "GPU": 1}, {"CPU": 4}], None, 4, True),
        ([{"CPU": 1, "GPU": 1}, {"CPU": 4}], None, 5, False),
    ],
)
def test_cpu_workers_must_fit_beside_the_gpu_workers(
    nodes: list[dict[str, float]], gpu_workers: int | None, cpu_workers: int, fit: bool
) -> None:
    mixed = Resources(gpu_workers, 1, 1, "auto", cpu_workers)
    if fit:
        require_room(nodes, mixed)
    else:
        with pytest.raises(InputError, match=f"--cpu-workers {cpu_workers}: beside the GPU"):
            require_room(nodes, mixed)


def test_cpu_workers_are_beside_gpu_workers_or_not_asked_for() -> None:
    with pytest.raises(InputError, match=r"--cpu-workers 2 .* give --gpus-per-worker 1"):
        Resources(None, 1, 0, "auto", cpu_workers=2)
    assert Resources(None, 2, 1, "auto").beside is None
    assert Resources(None, 2, 1, "auto", 3).beside == Resources(3, 2, 0, "cpu")


@pytest.mark.parametrize("amount", [-1, 1.5, math.inf, math.nan, 0.0001])
def test_an_amount_that_ray_cannot_give_is_refused(amount: float) -> None:
    with pytest.raises(InputError, match="per worker: give a whole number"):
        needs(cpus=amount)
    with pytest.raises(InputError, match="per worker: give a whole number"):
        needs(gpus=amount)


def test_cuda_without_a_gpu_is_refused() -> None:
    with pytest.raises(InputError, match="--gpus-per-worker"):
        Resources(None, 1, 0, "cuda")


def test_the_token_is_found_where_ray_looks_for_it(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ray_token() is None
    monkeypatch.setenv("RAY_AUTH_TOKEN", "first")
    assert ray_token() == "first"
