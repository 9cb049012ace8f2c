"""A fourth experiment is one folder and one line of a registry. Here all of it is in this file.

A seed puts some made-up digits in a random order, and the experiment counts how many of the first
places each digit takes. The file defines a configuration, an engine, a table, a derived table and a
report, and makes one `Experiment` of them. It hands a registry of its own to the service, and no
file of the packages knows of it. Oracle: NumPy, which counts in the same order again.
"""

import io
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from dispatching import files
from rich.console import Console
from tables import equal_tables

from cluster.deletion import delete, doomed
from cluster.experiment import Derived, Experiment, Question, Trials
from cluster.nodes.resources import Resources
from cluster.report.publish import publish
from cluster.results.collect import Collected, stored_plans
from cluster.results.committed import Portion
from cluster.run import RunOptions, run_sweep
from cluster.sweeps.plan import Plan, make_plan
from cluster.sweeps.stored import read_plan, store_plan
from cluster.sweeps.sweep import Cell, Sweep, declare
from pcworker.fingerprint import fingerprint
from pcworker.row import Int64
from pcworker.store.local import LocalStore
from pcworker.store.result import Origin, Tables
from pcworker.trials.trial import Trial

# ---------------------------------------------------------------- configuration.py

NETWORK = "no network"


@dataclass(frozen=True)
class CountConfiguration:
    """A digit, and the number of the first places in which it is counted."""

    engine_version: ClassVar[int] = 1
    sums: ClassVar[str] = "fixed"

    digit: int
    places: int

    @property
    def network(self) -> str:
        return NETWORK

    @property
    def rule(self) -> str:
        return "count"

    @property
    def epochs(self) -> int:
        return 1

    def twin(self) -> "CountConfiguration":
        return self


# ---------------------------------------------------------------- engine.py


@dataclass(frozen=True)
class Counted:
    """The results of a shard."""

    found: Mapping[Trial[CountConfiguration], int]
    wall_seconds: float = 0.0
    packing: str = "stacked"
    kernel: None = None

    @property
    def trial_ids(self) -> list[str]:
        return [trial.trial_id for trial in self.found]

    @property
    def twins(self) -> dict[str, list[str]]:
        """Each trial is its own twin, with one digest, as there is nothing to compare it with."""
        return {trial.trial_id: [fingerprint(found)] for trial, found in self.found.items()}

    @property
    def updates(self) -> int:
        return len(self.found)


class CountEngine:
    """Counts the made-up digits."""

    def __init__(self, digits: np.ndarray, device: Any) -> None:
        assert device.type == "cpu"
        self._digits = digits

    def run(
        self,
        trials: Sequence[Trial[CountConfiguration]],
        *,
        report: Callable[[float], None],
        **others: Any,
    ) -> Counted:
        found: dict[Trial[CountConfiguration], int] = {}
        for trial in trials:
            order = np.random.default_rng(trial.seed).permutation(self._digits)
            first = order[: trial.configuration.places]
            found[trial] = int((first == trial.configuration.digit).sum())
            report(len(found) / len(trials))
        return Counted(found)


# ---------------------------------------------------------------- tables.py


@dataclass(frozen=True, kw_only=True)
class CountRow:
    """The count of one trial. The row's fields are the columns of the table."""

    trial_id: str
    seed: Int64
    configuration: CountConfiguration
    status: str
    found: int | None = None
    origin: Origin
    engine_version: int


@dataclass(frozen=True)
class MeanRow:
    """The mean count of a digit over all seeds."""

    digit: int
    n_seeds: int
    found_mean: float


def planned_count(trial: Trial[CountConfiguration], origin: Origin, status: str) -> CountRow:
    return CountRow(
        trial_id=trial.trial_id,
        seed=trial.seed,
        configuration=trial.configuration,
        status=status,
        origin=origin,
        engine_version=trial.engine_version,
    )


def count_rows(result: Counted, origin: Origin) -> dict[str, list[CountRow]]:
    rows = [
        replace(planned_count(trial, origin, "done"), found=found)
        for trial, found in result.found.items()
    ]
    return {"counts": rows}


def count_digest(result: Counted) -> str:
    return fingerprint(result.twins)


READS = {"counts": ("digit", "found")}


def mean_rows(
    plans: Sequence[Plan[CountConfiguration]], portions: Iterable[Portion]
) -> list[MeanRow]:
    by_digit: dict[int, list[int]] = {}
    for portion in portions:
        for row in portion.rows("counts", READS["counts"]).to_pylist():
            by_digit.setdefault(row["digit"], []).append(row["found"])
    return [MeanRow(digit, len(found), mean(found)) for digit, found in sorted(by_digit.items())]


# ---------------------------------------------------------------- report.py, experiment.py


def print_means(console: Console, collected: Collected) -> None:
    for row in collected.rows("means"):
        console.print(f"digit {row['digit']}: {row['found_mean']:.2f} of the first places")


def made_up(directory: Path | None, trials: Trials) -> np.ndarray:
    return np.arange(1000) % 10


def in_shards_of_four(trials: Trials) -> list[Trials]:
    return [trials[place : place + 4] for place in range(0, len(trials), 4)]


def no_seconds(trials: Trials) -> float:
    return 0.001 * len(trials)


COUNT = Experiment(
    name="count",
    prefix="count",
    configuration=CountConfiguration,
    pack=in_shards_of_four,
    seconds=no_seconds,
    updates=len,
    stored_bytes=len,
    exact=False,
    same_everywhere=True,
    find_data=made_up,
    data_name=lambda data: f"{len(data)} made-up digits",
    engine=CountEngine,
    tables=Tables({"counts": CountRow}, "counts", planned_count, count_rows, count_digest),
    derived={"means": Derived(MeanRow, mean_rows, READS)},
    report=print_means,
    question=Question("means", "SELECT digit, found_mean FROM {}"),
)
REGISTRY = {COUNT.name: COUNT}

# ---------------------------------------------------------------- sweep.py

DIGITS, PLACES, SEEDS = (0, 1, 2), 100, (3, 4, 5)


def declared(seeds: Sequence[int] = SEEDS) -> Sweep[CountConfiguration]:
    return declare((Cell("count", CountConfiguration(d, PLACES), None) for d in DIGITS), seeds)


def options(store: Path, **changes: Any) -> RunOptions:
    """The options of a run in this process."""
    whole = RunOptions(
        store=str(store),
        s3_endpoint=None,
        sweep="counted",
        data=None,
        address=None,
        resources=Resources(workers=None, cpus=1, gpus=0, device="auto"),
        checkpoint_every=0,
        hang_minutes=10.0,
        plan_only=False,
        no_preflight=False,
        price_per_gpu_hour=None,
        price_per_core_hour=None,
        max_hours=None,
        max_cost=None,
        local_debug=True,
        same_everywhere=False,
    )
    return replace(whole, **changes)


def run(store: Path, experiment: Experiment = COUNT, **changes: Any) -> tuple[int, str]:
    """The exit code of a run, and what it has printed."""
    text = io.StringIO()
    console = Console(file=text, width=1000, markup=False, highlight=False)
    return run_sweep(experiment, declared(), options(store, **changes), console), text.getvalue()


def counted(digit: int, seed: int) -> int:
    """The oracle: the count of `digit`, by NumPy."""
    order = np.random.default_rng(seed).permutation(np.arange(1000) % 10)
    return int(np.bincount(order[:PLACES], minlength=10)[digit])


def read(store: Path, table: str, sweep: str = "counted") -> pa.Table:
    return pq.read_table(store / "sweeps" / sweep / "tables" / f"{table}.parquet")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The store of a run in this process, and what it printed."""
    store = tmp_path_factory.mktemp("here")
    code, text = run(store)
    assert code == 0, text
    return store, text


def test_it_is_planned_and_its_plan_is_stored_and_read_again(tmp_path: Path) -> None:
    plan = make_plan(COUNT, declared(), "planned")
    assert [len(shard.trials) for shard in plan.shards] == [4, 4, 1]
    store_plan(LocalStore(tmp_path), plan, {})
    assert read_plan(LocalStore(tmp_path), "planned", REGISTRY) == plan
    code, text = run(tmp_path, plan_only=True)
    assert code == 0
    assert "9 trials in 3 shards, 0 committed already; 9 weight updates to make" in text


def test_it_is_dispatched_committed_collected_and_printed(here: tuple[Path, str]) -> None:
    store, text = here
    for part in (
        "Preflight: 6 checks passed.",
        "9 trials in 3 shards, 0 committed already",
        f"Tables: {store}/sweeps/counted/tables/{{counts,means,failures}}.parquet",
        "SELECT digit, found_mean FROM",
    ):
        assert part in text, text
    assert text.count("event=committed") == 3
    rows = read(store, "counts").to_pylist()
    assert {(row["digit"], row["seed"]): row["found"] for row in rows} == {
        (digit, seed): counted(digit, seed) for digit in DIGITS for seed in SEEDS
    }
    for row in read(store, "means").to_pylist():
        oracle = mean(counted(row["digit"], seed) for seed in SEEDS)
        assert (row["n_seeds"], row["found_mean"]) == (len(SEEDS), oracle)
        assert f"digit {row['digit']}: {oracle:.2f} of the first places" in text


def test_the_same_run_again_has_nothing_to_do(here: tuple[Path, str]) -> None:
    code, text = run(here[0])
    assert code == 0
    assert "all 3 shards are committed already" in text


def test_a_real_ray_gives_the_same_tables(here: tuple[Path, str], tmp_path: Path) -> None:
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    small = Resources(workers=1, cpus=0.25, gpus=0, device="auto")
    code, text = run(tmp_path, local_debug=False, resources=small)
    assert code == 0, text
    assert text.startswith("Running on a local Ray on this machine: 1 node,")
    for table in ("counts", "means"):
        assert equal_tables(read(tmp_path, table), read(here[0], table))


def test_a_trial_that_fails_has_its_row_and_its_traceback(tmp_path: Path) -> None:
    class Refuses(CountEngine):
        def run(self, trials: Sequence[Trial[CountConfiguration]], **others: Any) -> Counted:
            if len(trials) == 1:
                raise ValueError("one is too few")
            return super().run(trials, **others)

    code, text = run(tmp_path, replace(COUNT, engine=Refuses))
    assert code == 1
    assert "1 shard failed" in text
    statuses = read(tmp_path, "counts")["status"].to_pylist()
    assert sorted(statuses) == ["done"] * 8 + ["failed"]
    failures = read(tmp_path, "failures").to_pylist()
    assert [row["error"] for row in failures] == ["ValueError: one is too few"] * 3
    assert all("test_a_new_experiment.py" in row["traceback"] for row in failures)


def test_two_of_its_sweeps_are_collected_together(here: tuple[Path, str], tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    console = Console(file=io.StringIO())
    for name, seeds in (("a", (3, 4)), ("b", (5,))):
        run_sweep(COUNT, declared(seeds), options(tmp_path, sweep=name), console)
    publish(store, stored_plans(store, ("a", "b"), REGISTRY), console, partial=False)
    assert equal_tables(read(tmp_path, "means", "a+b"), read(here[0], "means"))


def test_it_is_deleted_without_a_trace(tmp_path: Path) -> None:
    run(tmp_path)
    store = LocalStore(tmp_path)
    found = doomed(store, "counted", REGISTRY)
    assert found.foreign == ()
    assert found.described.startswith("9 trials, 3 of 3 shards committed")
    delete(store, found, lambda gone: None)
    assert files(tmp_path) == []


def test_two_tables_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="different names"):
        replace(
            COUNT, derived=dict.fromkeys(COUNT.tables.row_types, next(iter(COUNT.derived.values())))
        )


def test_a_figure_that_the_experiment_does_not_declare_is_refused(here: tuple[Path, str]) -> None:
    drawing = {COUNT.name: replace(COUNT, figures=lambda tables: {"other.png": b""})}
    store = LocalStore(here[0])
    plans = stored_plans(store, ["counted"], drawing)
    with pytest.raises(ValueError, match=r"other\.png"):
        publish(store, plans, Console(file=io.StringIO()), partial=False)
