"""Tests of the profile, which says where a sweep's time goes. Oracle: sums and counts by hand."""

import pytest
from command_lines import called

from cluster.sweeps.sweep import Sweep
from jobs.mnist_ablation.cost import TRAINING_SAMPLES
from jobs.mnist_ablation.packs import packs
from jobs.mnist_ablation.sweep import mnist_ablation
from jobs.profile.__main__ import BATCHES, COPIES, FLOOR, MEASURING, core_seconds, floor_seconds
from jobs.profile.curve import curve
from jobs.profile.network import Clock, NetworkTimes
from pcworker.trials.configuration import Configuration, configuration
from pcworker.trials.trial import Trial

NETWORK = "784-32-10"
UPDATES = TRAINING_SAMPLES // 20


def profile(update: dict[Configuration, float]) -> NetworkTimes:
    return NetworkTimes(update, copy=2.0, batch=5.0, noisy_batch=9.0, epoch=1000.0, pixels=3000.0)


def test_a_sweeps_core_seconds_are_its_shards_trials_and_what_they_share() -> None:
    """For each seed, a shard has IL, noisy Z-IL and BP."""
    cells = {
        "IL, t = 64": configuration(network=NETWORK, rule="IL", t=64, gamma=0.1, epochs=2),
        "Z-IL": configuration(network=NETWORK, rule="Z-IL", sigma=0.1, epochs=2),
        "BP": configuration(network=NETWORK, rule="BP", epochs=2),
    }
    trials = [Trial(config, seed) for config in cells.values() for seed in (1, 2)]
    times = dict(zip(cells.values(), (64.0, 3.0, 70.0), strict=True))
    found = core_seconds(trials, {NETWORK: profile(times)})
    millions = 2 * UPDATES / 1e6
    assert {row: pytest.approx(s) for (row, _), s in found.items()} == {
        "IL, t = 64": 2 * 64 * millions,
        "Z-IL": 2 * 3 * millions,
        "BP": 2 * 70 * millions,
        COPIES: 0,
        BATCHES: 2 * 9 * millions,
        MEASURING: 2 * 3 * 2 * 1e-3,
    }


def test_the_floor_is_the_arithmetic_of_the_trials_that_stay_finite() -> None:
    alive = configuration(network=NETWORK, rule="BP")
    left = configuration(network=NETWORK, rule="IL", t=64, gamma=10)
    trials = [Trial(alive, 1), Trial(left, 1)]
    found = floor_seconds(trials, {NETWORK: profile({alive: 70.0, left: 0.0})}, 2.0, 3.0)
    # Both layers predict and learn, and the error is pulled back through the layer of the outputs.
    products, sigmoids = 2 * 3000 * 32 + 3 * 20 * 32 * 10, 20 * 32
    seconds = (2 * products / 2.0e9 + sigmoids * 3.0e-9) * UPDATES
    assert found == {(FLOOR, NETWORK): pytest.approx(seconds)}


def paper(seeds: range, epochs: int = 64) -> Sweep:
    """The paper's sweep with other seeds."""
    return mnist_ablation(
        networks=["784-32-10", "784-32-32-10", "784-32-32-32-10"],
        seeds=seeds,
        t=(None, 0, 1, 2, 3, 4, 16, 64),
        gamma=(0.01, 0.1, 0.5, 1.0, 5.0, 10.0),
        sigma=(0.0, 0.0001, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0),
        epochs=epochs,
    )


def test_the_papers_sweep_gets_faster_with_workers() -> None:
    found = {point.workers: point for point in curve(paper(range(3)).trials, [1, 2, 16, 32])}
    least = {1: 0.95, 2: 0.95, 16: 0.9, 32: 0.75}
    assert all(found[workers].efficiency >= share for workers, share in least.items())
    assert "its longest shard" in found[32].bound and "longest" not in found[2].bound


def test_many_seeds_keep_512_workers_busy() -> None:
    [point] = curve(paper(range(100)).trials, [512])
    assert point.efficiency >= 0.9


@pytest.mark.parametrize(("seeds", "epochs", "most"), [(1, 1, 12), (3, 64, 60), (100, 1, 1500)])
def test_a_sweep_has_no_more_shards_than_are_worth_it(seeds: int, epochs: int, most: int) -> None:
    trials = sorted(paper(range(seeds), epochs).trials, key=lambda trial: trial.trial_id)
    assert len(packs(trials)) <= most


def test_numbers_of_workers_are_at_least_1() -> None:
    done = called("--workers", "2,0", module="jobs.profile")
    assert (done.code, done.stdout) == (2, "")
    assert "--workers 0: give whole numbers of at least 1" in done.stderr


def test_a_clock_says_the_median_and_0_of_what_was_never_done() -> None:
    clock = Clock()
    assert clock.of("work", lambda a, b: a + b, 2, b=3) == 5
    assert clock.median("work") > 0.0
    assert clock.median("other") == 0.0


def test_the_command_prints_a_row_for_each_number_of_steps_and_their_sum() -> None:
    networks = ("--networks", "784-16-10,784-16-16-10")
    done = called("--rounds", "1", *networks, "--t", "l,2,64", module="jobs.profile")
    assert (done.code, done.stderr) == (0, "")
    lines = [[cell.strip() for cell in line.split("│")] for line in done.stdout.splitlines()]
    rows = [cells[1:5] for cells in lines if len(cells) == 7]
    assert [name for name, *_ in rows] == [
        *("IL, t = 2", "IL, t = 64", "Z-IL", "Fa-Z-IL", "BP", COPIES, BATCHES, MEASURING),
        *("sum", FLOOR),
    ]
    *parts, total, _ = [[float(cell.replace(",", "")) for cell in cells] for _, *cells in rows]
    assert [sum(column) for column in zip(*parts, strict=True)] == pytest.approx(total, abs=5)
