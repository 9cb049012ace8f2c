"""Tests of a sweep as a researcher runs it: by command, on a real Ray, with MNIST, in a new folder.

One small sweep of four shards runs undisturbed with one worker. Once more it is interrupted, and
finished in the test's own process. The tests look at the results. A test that damages a store
damages a copy. Drivers that are killed, two drivers at once, and workers on several nodes are in
tests/faults.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pytest
from command_lines import ABLATION, Ended, called, started
from preflight_lines import says_well
from running import PATIENCE_S, ROOT, peak_memory, wait_until, workers
from tables import equal_tables, read_tables

from cluster.driver.record.heartbeat import Heartbeat
from jobs.mnist_ablation.cost import shard_bytes
from jobs.mnist_ablation.sweep import mnist_ablation
from pcworker.kernels.compiler import DEBUG_BUILD
from pcworker.store.local import LocalStore
from pcworker.trials.configuration import CHOICES

NETWORKS = ("784-16-10", "784-32-10", "784-32-32-10", "784-32-32-32-10")
SHARDS = len(NETWORKS)
SWEEP = (
    *("--networks", ",".join(NETWORKS), "--epochs", "1", "--batch-size", "100", "--seeds", "1"),
    *("--t", "l,1", "--gamma", "0.5,1", "--sigma", "0,0.1"),
)


@dataclass(frozen=True)
class Run:
    """A command that has ended."""

    store: Path
    code: object
    stdout: str
    stderr: str

    @property
    def folder(self) -> Path:
        return sweep_folder(self.store)

    def says_one_line(self, *parts: str) -> None:
        """Fails unless stderr is one line that holds all of these, and no traceback is anywhere.

        An empty line may stand before it: it ends the line on which a terminal shows ^C.
        """
        assert self.stderr.strip().count("\n") == 0, self.stderr
        assert all(part in self.stderr for part in parts), self.stderr
        assert "Traceback" not in self.stdout


def ended(process: "subprocess.Popen[str]", store: Path) -> Run:
    stdout, stderr = process.communicate(timeout=PATIENCE_S)
    return Run(store, process.returncode, stdout, stderr)


@contextmanager
def sweeping(store: Path, *options: str, slow: bool = False) -> Iterator["subprocess.Popen[str]"]:
    """Starts the sweep's command in a process group of its own, as a shell would.

    slow  True: a debug build of the kernel trains. The bits are the same, and there is time to
          disturb the sweep.
    """
    command = [sys.executable, "-m", ABLATION, "--store", str(store), *SWEEP, *options]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | ({DEBUG_BUILD: "1"} if slow else {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def of(store: Path, done: Ended) -> Run:
    """What a command has left in a store."""
    return Run(store, done.code, done.stdout, done.stderr)


def sweep(store: Path) -> Run:
    """Calls the sweep's command in this process: nothing is left to train, so no Ray is started."""
    return of(store, called("--store", str(store), *SWEEP, "--workers", "1"))


def collecting(store: Path) -> tuple[str, ...]:
    return ("--store", str(store), "--sweep", sweep_folder(store).name)


def collect(store: Path, *options: str) -> Run:
    return of(store, called(*collecting(store), *options, module="jobs.collect"))


def sweep_folder(store: Path) -> Path:
    [folder] = (store / "sweeps").iterdir()
    return folder


def commits(store: Path) -> dict[str, bytes]:
    """The content of each commit, by shard id."""
    found = store.glob("sweeps/*/shards/*/commit.json")
    return {path.parent.name: path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, int]:
    """The sweep with one worker, and the peak of the worker's memory in bytes."""
    store, peaks = tmp_path_factory.mktemp("one-worker"), [0]

    def look(process: "subprocess.Popen[str]") -> bool:
        peaks.extend(map(peak_memory, workers(process.pid)))
        return False

    with sweeping(store, "--workers", "1") as process:
        wait_until(lambda: look(process), process, every=0.3)
        return ended(process, store), max(peaks)


@pytest.fixture(scope="module")
def undisturbed(watched: tuple[Run, int]) -> Run:
    return watched[0]


@dataclass(frozen=True)
class Disturbed:
    """The sweep that was interrupted, and finished without Ray, beside another driver."""

    interrupted: Run
    at_interruption: dict[str, bytes]
    """The commits that were there after the interruption."""
    finished: Run


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory: pytest.TempPathFactory) -> Disturbed:
    store = tmp_path_factory.mktemp("disturbed")
    with sweeping(store, "--workers", "1", slow=True) as process:
        assert wait_until(lambda: len(commits(store)) > 0, process), process.communicate()
        os.killpg(process.pid, signal.SIGINT)  # Ctrl-C, too, signals the whole group
        interrupted = ended(process, store)
    at_interruption = commits(store)
    Heartbeat(LocalStore(store), sweep_folder(store).name).beat()
    finished = called("--store", str(store), *SWEEP, "--local-debug")
    return Disturbed(interrupted, at_interruption, of(store, finished))


@pytest.fixture
def copy(undisturbed: Run, tmp_path: Path) -> Path:
    """A copy of the finished sweep's store, without the tables and the report."""
    ignore = shutil.ignore_patterns("tables", "report")
    return shutil.copytree(undisturbed.store, tmp_path / "copy", ignore=ignore)


def assert_equal_results(a: Run, b: Run) -> None:
    ours, theirs = read_tables(a.folder / "tables"), read_tables(b.folder / "tables")
    for name, table in ours.items():
        assert equal_tables(table, theirs[name]), f"{name} differs"


def test_the_sweep_says_first_which_ray_it_runs_on_and_ends_with_code_0(undisturbed: Run) -> None:
    assert undisturbed.code == 0, undisturbed.stderr
    assert undisturbed.stderr == ""
    first = undisturbed.stdout.splitlines()[0]
    assert re.match(r"Running on a local Ray on this machine: 1 node, \d+ CPU core", first)


def test_preflight_says_in_one_line_that_all_is_well(undisturbed: Run) -> None:
    summary = "Preflight: 11 checks passed; each worker looks for itself: devices, exactness."
    assert says_well(undisturbed.stdout, summary)


def test_no_more_is_kept_than_preflight_expects(undisturbed: Run) -> None:
    axes = {"t": [None, 1], "gamma": [0.5, 1.0], "sigma": [0.0, 0.1], "rules": CHOICES["rule"]}
    declared = mnist_ablation(networks=NETWORKS, seeds=[1], **axes)
    kept = sum(path.stat().st_size for path in undisturbed.store.rglob("weights.parquet"))
    expected = shard_bytes(declared.trials)
    assert 0.1 * expected < kept < expected + SHARDS * 20_000


def test_a_finished_sweep_has_a_commit_per_shard_and_all_its_tables(undisturbed: Run) -> None:
    assert len(commits(undisturbed.store)) == SHARDS
    tables = {path.name for path in (undisturbed.folder / "tables").iterdir()}
    names = ("trials", "epochs", "weights", "divergence", "failures")
    assert tables == {f"{name}.parquet" for name in names}
    assert (undisturbed.folder / "report" / "figure3.svg").stat().st_size > 0


def test_where_all_conditions_hold_the_divergence_is_exactly_zero(undisturbed: Run) -> None:
    rows = pd.read_parquet(undisturbed.folder / "tables" / "divergence.parquet")
    exact = rows[(rows.rule == "Z-IL") & (rows.gamma == 1) & (rows.sigma == 0)]
    assert set(exact.network[exact.panel == "t-gamma"]) == set(NETWORKS)
    assert set(exact.network[exact.panel == "sigma"]) == set(NETWORKS)
    assert exact.exact.all()
    assert (exact.test_error_divergence_mean == 0.0).all()
    assert (exact.weight_divergence_l2_mean == 0.0).all()
    assert (exact.weight_divergence_maxabs_max == 0.0).all()


def test_fa_z_il_and_bp_itself_are_exact_too(undisturbed: Run) -> None:
    rows = pd.read_parquet(undisturbed.folder / "tables" / "divergence.parquet")
    rules = rows[rows.panel == "rule"]
    assert sorted(rules.rule) == ["BP"] * SHARDS + ["Fa-Z-IL"] * SHARDS
    assert rules.exact.all()
    assert (rules.test_error_divergence_mean == 0.0).all()
    assert (rules.weight_divergence_l2_mean == 0.0).all()


def test_where_a_condition_is_broken_the_weights_drift_from_backpropagation(
    undisturbed: Run,
) -> None:
    rows = pd.read_parquet(undisturbed.folder / "tables" / "divergence.parquet")
    broken = rows[(rows.gamma == 0.5) | (rows.sigma == 0.1) | (rows.t == 1)]
    assert len(broken) == SHARDS * 4
    assert not broken.exact.any()
    assert (broken.weight_divergence_l2_mean > 0.0).all()


def test_the_printed_tables_show_the_exact_cells_as_0_0(undisturbed: Run) -> None:
    rows = re.findall(r"^ +l +(\S+) +(\S+) *$", undisturbed.stdout, flags=re.MULTILINE)
    assert [at_1 for _, at_1 in rows] == ["0.0"] * 2 * SHARDS
    assert "0.0" not in [at_half for at_half, _ in rows[SHARDS:]]  # the second half: weights
    assert "Determinism audit" not in undisturbed.stdout  # every shard owns its twin


def test_duckdb_and_pandas_answer_questions_from_the_tables(undisturbed: Run) -> None:
    tables = undisturbed.folder / "tables"
    query = f"""
        SELECT t.network, t.rule, count(*) AS n, max(e.weight_l2_to_twin) AS l2
        FROM '{tables}/trials.parquet' t JOIN '{tables}/epochs.parquet' e USING (trial_id)
        WHERE t.status = 'done' GROUP BY ALL ORDER BY ALL
    """
    with duckdb.connect() as connection:
        found = connection.sql(query).fetchall()
    assert [(network, rule, n) for network, rule, n, _ in found] == [
        (network, rule, n)
        for network in NETWORKS
        for rule, n in (("BP", 1), ("Fa-Z-IL", 1), ("IL", 2), ("Z-IL", 3))
    ]
    assert {l2 for _, rule, _, l2 in found if rule in ("BP", "Fa-Z-IL")} == {0.0}
    frame = pd.read_parquet(tables / "divergence.parquet")
    panel = frame[frame.panel == "t-gamma"].fillna({"t": -1})
    pivot = panel.pivot_table(
        index=["network", "t"], columns="gamma", values="weight_divergence_l2_mean"
    )
    assert pivot.shape == (2 * SHARDS, 2)
    assert pivot.notna().all(axis=None)


def test_the_same_command_again_runs_nothing_and_touches_no_commit(undisturbed: Run) -> None:
    def seen() -> dict[str, tuple[int, bytes]]:
        kept = [undisturbed.folder / "plan.json", *undisturbed.folder.glob("shards/**/*")]
        return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in kept if p.is_file()}

    tables, before = read_tables(undisturbed.folder / "tables"), seen()
    again = sweep(undisturbed.store)
    assert again.code == 0, again.stderr
    assert f"all {SHARDS} shards are committed already" in again.stdout.splitlines()[0]
    assert "Running on" not in again.stdout
    assert seen() == before
    after = read_tables(again.folder / "tables")
    assert all(equal_tables(table, after[name]) for name, table in tables.items())


def test_one_changed_bit_or_one_lost_row_is_a_difference() -> None:
    rows = {"trial_id": ["a", "b"], "wall_seconds": [1.0, 2.0], "value": [[0.0, 1.0], [2.0]]}
    table = pa.table(rows)
    shuffled = pa.table({name: values[::-1] for name, values in rows.items()})
    assert equal_tables(table, shuffled)
    assert equal_tables(table, pa.table(rows | {"wall_seconds": [3.0, 4.0]}))
    assert not equal_tables(table, pa.table(rows | {"value": [[-0.0, 1.0], [2.0]]}))
    assert not equal_tables(table, table.slice(1))
    assert not equal_tables(table, table.drop_columns("value"))


def test_an_interrupted_sweep_says_what_to_do_and_ends_with_code_130(disturbed: Disturbed) -> None:
    assert disturbed.interrupted.code == 130
    disturbed.interrupted.says_one_line("interrupted", "committed is kept", "same command")
    assert 0 < len(disturbed.at_interruption) < SHARDS


def test_the_same_command_goes_on_where_the_interrupted_sweep_was(disturbed: Disturbed) -> None:
    assert f"{len(disturbed.at_interruption)} committed already" in disturbed.finished.stdout
    after = commits(disturbed.finished.store)
    assert disturbed.at_interruption.items() <= after.items()
    assert len(after) == SHARDS


def test_an_interruption_changes_no_bit_and_this_process_gives_the_bits_of_a_worker(
    disturbed: Disturbed, undisturbed: Run
) -> None:
    finished = disturbed.finished
    assert (finished.code, finished.stderr) == (0, "")
    assert finished.stdout.splitlines()[0].startswith("Running in this process, without Ray")
    assert_equal_results(undisturbed, finished)
    ours, theirs = (
        {shard: json.loads(commit)["result_digest"] for shard, commit in commits(store).items()}
        for store in (undisturbed.store, finished.store)
    )
    assert ours == theirs


def test_a_driver_says_that_another_seems_alive(disturbed: Disturbed, undisturbed: Run) -> None:
    assert "Another driver seems alive" in disturbed.finished.stdout
    assert "Another driver seems alive" not in undisturbed.stdout


def test_a_worker_needs_less_than_2_gib(watched: tuple[Run, int]) -> None:
    run, peak = watched
    assert run.code == 0, run.stderr
    assert 2**27 < peak < 2**31  # torch and the digits alone need more than 2^27


def test_the_collector_makes_the_same_tables_from_what_is_stored(
    undisturbed: Run, copy: Path
) -> None:
    collected = of(copy, started(*collecting(copy), module="jobs.collect"))
    assert (collected.code, collected.stderr) == (0, "")
    assert_equal_results(undisturbed, collected)
    assert (collected.folder / "report" / "figure3.png").stat().st_size > 0


def test_the_collector_refuses_tables_with_holes(copy: Path) -> None:
    shard = sorted(commits(copy))[0]
    (sweep_folder(copy) / "shards" / shard / "commit.json").unlink()
    refused = collect(copy)
    assert refused.code == 2
    refused.says_one_line("7 trials have no result yet", "--partial")
    assert not (refused.folder / "tables").exists()


def test_partial_tables_mark_what_is_missing(copy: Path) -> None:
    shard = sorted(commits(copy))[0]  # the first is the dearest, of the deepest network
    (sweep_folder(copy) / "shards" / shard / "commit.json").unlink()
    partial = collect(copy, "--partial")
    assert (partial.code, partial.stderr) == (0, "")
    assert "missing" in partial.stdout
    assert "7 trials are missing" in partial.stdout
    rows = pd.read_parquet(partial.folder / "tables" / "divergence.parquet")
    holes = rows.network == NETWORKS[-1]
    assert (rows.n_seeds[holes] == 0).all()
    assert rows.exact[holes].isna().all()
    assert rows.weight_divergence_l2_mean[holes].isna().all()
    assert (rows.n_seeds[~holes] == 1).all()


def test_damaged_results_are_named_and_the_rest_stays_readable(copy: Path) -> None:
    commit, *_ = sorted(copy.glob("sweeps/*/shards/*/commit.json"))
    commit.write_bytes(commit.read_bytes()[:-10])
    _, flipped, cut, _ = sorted(copy.glob("sweeps/*/shards/*/attempts/*/weights.parquet"))
    data = bytearray(flipped.read_bytes())
    data[len(data) // 2] ^= 1
    flipped.write_bytes(data)
    cut.write_bytes(cut.read_bytes()[:1000])
    names = [str(path) for path in (commit, flipped, cut)]
    refused = collect(copy)
    assert refused.code == 2
    refused.says_one_line("damaged", "delete", *names)
    partial = collect(copy, "--partial")
    assert (partial.code, partial.stderr) == (0, "")
    assert all(name in partial.stdout.replace("\n", "") for name in names)
    assert "21 trials are missing" in partial.stdout
    assert "0.0" in partial.stdout
    rows = pd.read_parquet(partial.folder / "tables" / "divergence.parquet")
    assert set(rows.network[rows.n_seeds == 1]) == {NETWORKS[0]}


def test_what_is_no_commit_at_all_and_a_lost_file_are_named_too(copy: Path) -> None:
    first, second, third, _ = sorted(copy.glob("sweeps/*/shards/*/commit.json"))
    first.write_bytes(b"\xff\xfe")
    second.write_bytes(b"[]")
    third.write_bytes(b"{}")
    lost = sorted(copy.glob("sweeps/*/shards/*/attempts/*/epochs.parquet"))[-1]
    lost.unlink()
    refused = collect(copy)
    assert refused.code == 2
    refused.says_one_line(*(str(path) for path in (first, second, third, lost)))
    assert "28 trials are missing" in collect(copy, "--partial").stdout


def test_a_sweep_with_a_damaged_commit_is_not_run(copy: Path) -> None:
    path = sorted(copy.glob("sweeps/*/shards/*/commit.json"))[0]
    path.write_bytes(b"{")
    refused = sweep(copy)
    assert refused.code == 2
    refused.says_one_line(str(path), "damaged", "delete it")
    assert "Running on" not in refused.stdout
    assert path.read_bytes() == b"{"


def test_a_sweep_whose_plan_is_damaged_is_not_run(copy: Path) -> None:
    path = sweep_folder(copy) / "plan.json"
    path.write_bytes(path.read_bytes()[:1000])
    for refused in (sweep(copy), collect(copy, "--partial")):
        assert refused.code == 2
        refused.says_one_line(str(path), "damaged")
