"""Trials are compared with the published digests of `make mnist` and `make figure3`.

The oracle of the real test is `digests.csv`, which another run has made. The others change one
thing in results of known digests.
"""

import csv
from collections.abc import Callable, Iterator
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
from builders import ablation, collected, commit, commit_all, planned, with_z_il_changed
from command_lines import Ended, called

from cluster.sweeps.sweep import Sweep
from jobs.mnist_ablation.published import comparison
from jobs.mnist_ablation.published.comparison import DATA_LINE, found_digests_of, published_digests
from jobs.mnist_ablation.sweep import (
    GAMMAS,
    PAPER_SEEDS,
    SIGMAS,
    STEPS_OF_THE_PAPER,
    mnist_ablation,
)
from jobs.options import INTEGERS, MNIST_NETWORKS, NUMBERS, STEPS, TEXTS
from pcworker.store.local import LocalStore
from pcworker.training.results import TrialResult

Change = Callable[[TrialResult], TrialResult]


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def table_of_ours(store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator:
    """A table of the digests of made-up results."""
    commit_all(store, planned(store, ablation(), "published"))
    tables = collected(store, "published").tables
    ids = tables["trials"]["trial_id"].to_pylist()
    path = tmp_path / "digests.csv"
    with path.open("w", newline="") as file:
        file.write(f"{DATA_LINE}\n")
        out = csv.writer(file)
        out.writerow(["sweep", "trial_id", "weights", "metrics", "layers"])
        bits = found_digests_of(tables, ids).items()
        out.writerows(["any", trial_id, *astuple(each)] for trial_id, each in bits)
    monkeypatch.setattr(comparison, "PUBLISHED", path)
    published_digests.cache_clear()
    yield
    published_digests.cache_clear()


def test_with_other_data_nothing_is_compared(store: LocalStore, table_of_ours: None) -> None:
    text = comparison.PUBLISHED.read_text()
    assert len(published_digests()) > 0
    comparison.PUBLISHED.write_text(text.replace("741c9888", "00000000", 1))
    published_digests.cache_clear()
    assert published_digests() == {}
    done = commit_changed(store, lambda result: result)
    assert done.code == 0
    assert "published bits" not in done.stdout


def commit_changed(store: LocalStore, change: Change) -> Ended:
    """Commits what the table is of, but for one changed trial, and collects it."""
    plan = planned(store, ablation(), "ours")
    for shard in plan.shards:
        commit(store, plan, shard, result=with_z_il_changed(shard, change), hostname="there")
    return called("--store", store.url, "--sweep", "ours", module="jobs.collect")


def another_layer(result: TrialResult) -> TrialResult:
    """One bit of the second layer."""
    first, [weight] = result.parameters
    changed = weight.copy()
    changed[0, 0] = np.nextafter(changed[0, 0], 1)
    return replace(result, parameters=[first, [changed]])


def another_metric(result: TrialResult) -> TrialResult:
    *before, last = result.epochs
    nudged = float(np.nextafter(last.train_energy, np.inf))
    return replace(result, epochs=[*before, replace(last, train_energy=nudged)])


@pytest.mark.usefixtures("table_of_ours")
def test_equal_bits_are_counted(store: LocalStore) -> None:
    done = commit_changed(store, lambda result: result)
    assert (done.code, done.stderr) == (0, "")
    assert "8 of 8 trials have the published bits." in done.stdout


@pytest.mark.usefixtures("table_of_ours")
@pytest.mark.parametrize(
    ("change", "what"),
    [
        (another_layer, "the parameters 2, counted from the output"),
        (another_metric, "the metrics alone"),
    ],
)
def test_a_trial_with_other_bits_is_named_and_the_exit_code_tells(
    store: LocalStore, change: Change, what: str
) -> None:
    done = commit_changed(store, change)
    assert (done.code, done.stderr) == (1, "")
    assert "7 of 8 trials have the published bits." in done.stdout
    [line] = [each for each in done.stdout.splitlines() if each.startswith("trial ")]
    assert "Z-IL, gamma 1.0, sigma 0.0, seed 1) does not have the published bits" in line
    assert f"it differs in {what}, and was trained on there (cpu" in line


def test_a_sweep_without_published_trials_says_nothing_of_them(store: LocalStore) -> None:
    commit_all(store, planned(store, ablation(), "any"))
    done = called("--store", store.url, "--sweep", "any", module="jobs.collect")
    assert done.code == 0
    assert "published bits" not in done.stdout


def paper(seeds: str, epochs: int) -> Sweep:
    """The sweep of `make mnist` or `make figure3`."""
    return mnist_ablation(
        networks=TEXTS.convert(MNIST_NETWORKS, None, None),
        seeds=INTEGERS.convert(seeds, None, None),
        t=STEPS.convert(STEPS_OF_THE_PAPER, None, None),
        gamma=NUMBERS.convert(GAMMAS, None, None),
        sigma=NUMBERS.convert(SIGMAS, None, None),
        epochs=epochs,
    )


def test_the_trials_of_both_sweeps_are_published_and_no_others() -> None:
    trials = (*paper("1482555873", 1).trials, *paper(PAPER_SEEDS, 64).trials)
    assert published_digests().keys() == {trial.trial_id for trial in trials}
    assert len(trials) == 156 + 468


def test_real_trials_have_the_published_bits(tmp_path: Path) -> None:
    done = called(
        *("--store", str(tmp_path), "--sweep", "some", "--local-debug", "--no-preflight"),
        *("--networks", "784-32-10", "--t", "l,2", "--gamma", "0.5,1", "--sigma", "0,10"),
    )
    assert done.code == 0
    assert "7 of 7 trials have the published bits." in done.stdout
