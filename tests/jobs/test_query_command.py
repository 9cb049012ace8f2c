"""Tests of the command `jobs.query` and of the library for notebooks, `jobs.notebook`."""

import copy
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from buckets import entered, fresh_url
from builders import ablation, commit, commit_all, planned, rewrite
from command_lines import ROOT, Ended, called, files, started, the_line
from seaweed import Seaweed

from cluster.results.collect import collect, write_tables
from jobs.notebook import results
from pcworker.errors import InputError
from pcworker.store.keys import SweepKeys
from pcworker.store.local import LocalStore
from pcworker.store.store import open_store

QUERY = "jobs.query"


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """A store with the finished sweeps a and b, of one seed each, and c without a result."""
    made = LocalStore(tmp_path / "store")
    for name, seed in (("a", 1), ("b", 2), ("c", 3)):
        plan = planned(made, ablation(seeds=[seed]), name)
        if name != "c":
            commit_all(made, plan)
    return made


def asked(store: LocalStore, *options: str, sweep: str = "a") -> Ended:
    return called("--store", str(store.root), "--sweep", sweep, *options, module=QUERY)


def rows(store: LocalStore, *options: str, sweep: str = "a") -> list[dict[str, object]]:
    """The rows of an answer, in JSON."""
    ended = asked(store, *options, "--format", "json", sweep=sweep)
    assert (ended.code, ended.stderr) == (0, "")
    found: list[dict[str, object]] = json.loads(ended.stdout)
    return found


COUNT = "SELECT sweep, count(*) AS n FROM epochs GROUP BY ALL ORDER BY ALL"


def test_commas_tell_sweeps_apart_and_a_plus_joins_them(store: LocalStore) -> None:
    assert rows(store, COUNT) == [{"sweep": "a", "n": 8}]
    assert rows(store, COUNT, sweep="a,b") == [{"sweep": "a", "n": 8}, {"sweep": "b", "n": 8}]
    assert rows(store, COUNT, sweep="b+a") == [{"sweep": "a+b", "n": 16}]
    assert rows(store, COUNT, sweep="a,a+b,a") == [
        {"sweep": "a", "n": 8},
        {"sweep": "a+b", "n": 16},
    ]


def test_a_table_in_a_few_words(store: LocalStore) -> None:
    words = ("--table", "trials", "--filter", "rule=IL|Z-IL", "--filter", "sigma=0")
    found = rows(
        store, *words, "--group-by", "rule,gamma", "--columns", "final_test_error", "--sort",
        "-final_test_error_mean", "--limit", "3", sweep="a+b",
    )  # fmt: skip
    assert [row["trials"] for row in found] == [2, 2, 2]
    assert set(found[0]) == {
        *("rule", "gamma", "trials"),
        *(f"final_test_error_{name}" for name in ("mean", "sd", "se", "n")),
    }
    means = [row["final_test_error_mean"] for row in found if row["final_test_error_n"]]
    assert means == sorted(means, reverse=True)  # type: ignore[type-var]
    plain = rows(store, *words, "--rows", "--columns", "seed,gamma", "--sort", "seed,-gamma")
    assert {row["seed"] for row in plain} == {1}


def test_what_is_missing_is_said_apart_from_the_answer(store: LocalStore) -> None:
    ended = asked(store, "SELECT count(*) AS n FROM trials", "--format", "csv", sweep="c,a")
    assert (ended.code, ended.stdout) == (0, '"n"\n8\n')
    assert ended.stderr == "c: 8 of 8 trials have no result\n"


@pytest.mark.parametrize("kind", ["csv", "json", "parquet", "markdown", "latex", "table"])
def test_a_file_has_what_a_pipe_gets(store: LocalStore, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "answer"
    question = ("SELECT * FROM epochs", "--format", kind)
    ended = asked(store, *question, "--output", str(path))
    assert ended == Ended(0, "", "")
    if kind == "parquet":
        assert pq.read_table(path).num_rows == 8
    else:
        assert asked(store, *question).stdout == path.read_text()


def test_parquet_goes_through_a_pipe(store: LocalStore, tmp_path: Path) -> None:
    command = [sys.executable, "-m", QUERY, "--store", str(store.root), "--sweep", "a"]
    with (tmp_path / "answer").open("wb") as sink:
        subprocess.run(
            [*command, "--format", "parquet", "SELECT * FROM weights"],
            cwd=ROOT, stdout=sink, check=True,
        )  # fmt: skip
    expected = results(str(store.root), "a").table("weights").arrow()
    assert pq.read_table(tmp_path / "answer").to_pylist() == expected.to_pylist()


def on_a_terminal(*words: str, typed: bytes = b"") -> tuple[int, str]:
    """Runs a command whose input and output are a terminal. Returns its exit code and all that it
    writes."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", QUERY, *words],
        cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    os.write(ours, typed)
    written = b""
    try:
        while part := os.read(ours, 65536):
            written += part
    except OSError:  # The last process that had the terminal open has ended.
        pass
    os.close(ours)
    return process.wait(), written.decode()


def test_a_terminal_is_refused_parquet(store: LocalStore) -> None:
    code, written = on_a_terminal(
        "--store", str(store.root), "--sweep", "a", "--format", "parquet", "SELECT 1"
    )
    assert code == 2
    assert "not for a terminal" in written
    assert "PAR1" not in written


def test_without_a_question_a_terminal_gets_a_prompt(
    store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZILSWEEP_CACHE", str(tmp_path / "cache"))
    question = b"SELECT 40 + count(*) // 4 AS found FROM trials\r"
    code, written = on_a_terminal(
        "--store", str(store.root), "--sweep", "a", typed=question + b"SELEC\r.quit\r"
    )
    assert code == 0
    assert "42" in written
    assert "Parser Error" in written
    assert "SELECT 40" in (tmp_path / "cache" / "query-history").read_text()


def test_a_filter_that_nothing_fulfils_is_said(store: LocalStore) -> None:
    for more in ([], ["--rows"], ["--group-by", "rule"]):
        options = ("--table", "trials", "--filter", "rule=ZIL", "--filter", "t=4", *more)
        done = asked(store, *options, "--format", "json")
        assert (done.code, done.stdout) == (0, "[]\n")
        assert done.stderr == "no row of the table trials fulfils rule=ZIL and t=4\n"


def test_a_schema_needs_no_sweep(store: LocalStore) -> None:
    every = called("--schema", "--format", "json", module=QUERY)
    tables = {row["table"] for row in json.loads(every.stdout)}
    assert {"trials", "timings", "detection", "divergence", "failures"} <= tables
    for options in ([], ["--store", str(store.root), "--sweep", "a"]):
        piped = called("--schema", *options, module=QUERY).stdout.splitlines()
        assert len(piped) > 50 and max(map(len, piped)) <= 100
        assert any("DOUBLE[]" in line for line in piped)
    mine = rows(store, "--schema")
    assert {row["table"] for row in mine} == {
        "trials",
        "epochs",
        "weights",
        "divergence",
        "failures",
    }
    assert {row["table"] for row in rows(store, "--schema", "epochs")} == {"epochs"}


MISTAKES = {
    "SELEC 1": ['Parser Error: syntax error at or near "SELEC"'],
    "SELECT * FROM trails": ['Did you mean "trials"'],
    "SELECT * FROM nothing": ["nothing does not exist!; the tables are trials, epochs"],
    "SELECT 'a'::INT": ["Conversion Error"],
    "SELECT 1; SELECT 2": ["2 statements", "ask one at a time"],
    "BEGIN": ["there are no transactions here"],
    "SELECT '\udcff'": ["some of its bytes are no UTF-8"],
    "SELECT 'infinity'::TIMESTAMP": ["a date of the answer cannot be shown", "cast it in SQL"],
    "SELECT DATE '290000-01-01' --format csv": ["cast it in SQL"],
    "SELECT DATE '290000-01-01' --format json": ["cast it in SQL"],
    "SELECT 1 --table trials": ["SQL and --table", "one question"],
    "--table trails": ["'trails'", "use one of trials"],
    "--table trials --filter rul=IL": ["'rul'", "use one of rule"],
    "--table trials --rows --group-by rule": ["leave out --group-by"],
    "--table trials --limit -1": ["-1", "x>=0"],
    "--limit 3": ["are for --table"],
    "--schema trails": ["'trails'"],
    "--table timings": ["use one of divergence", "jobs.imagenet_timing have a table timings"],
    "SELECT * FROM timings": ["jobs.imagenet_timing have a table timings"],
    "--schema detection": ["jobs.detection_rate have a table detection"],
    "--sql x": ["No such option '--sql';", "jobs.query --help lists what there is"],
    "--format xml": ["'csv', 'json', 'parquet'"],
    "--output /nowhere/at/all --table trials": ["/nowhere/at/all", "name another file"],
    "": ["nothing is asked", "--table NAME"],
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_one_line(
    store: LocalStore, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        sql, dashes, options = text.partition("--")
        words = [sql.strip()] if sql.strip() else []
        line = the_line(asked(store, *words, *(dashes + options).split()))
    assert all(part in line for part in MISTAKES[text]), line


def test_a_sweep_or_a_store_that_is_not_there_is_one_line(
    store: LocalStore, tmp_path: Path
) -> None:
    assert "no sweep nobody in the store" in the_line(asked(store, "SELECT 1", sweep="nobody"))
    assert "'../x'" in the_line(asked(store, "SELECT 1", sweep="../x"))
    wrong = {"ftp://x/y": "s3://bucket/prefix", str(tmp_path / "none"): "no sweep a"}
    for url, said in wrong.items():
        assert said in the_line(called("--store", url, "--sweep", "a", "SELECT 1", module=QUERY))
    assert not (tmp_path / "none").exists()
    no_sweep = called("--store", str(store.root), "SELECT 1", module=QUERY)
    assert "give --sweep NAME" in the_line(no_sweep)
    assert "it has a, b, c" in the_line(no_sweep)


def test_sweeps_of_a_later_schema_are_refused_in_one_line(store: LocalStore) -> None:
    rewrite(store, SweepKeys("a").plan, lambda body: body | {"schema_version": 99})
    assert "schema 99" in the_line(asked(store, "SELECT 1"))


def test_a_table_of_a_later_schema_is_not_read(store: LocalStore) -> None:
    keys = SweepKeys("a")
    (plan,) = results(str(store.root), "a")._session._views[0].asked.plans
    write_tables(store, collect(store, [plan]))
    path = store.root / keys.table("trials")
    table = pq.read_table(path)
    later = {**(table.schema.metadata or {}), b"schema_version": b"99"}
    pq.write_table(table.slice(0, 1).replace_schema_metadata(later), path)
    assert rows(store, "SELECT count(*) AS n FROM trials") == [{"n": 8}]


def test_a_store_without_permission_is_one_line(store: LocalStore) -> None:
    (store.root / SweepKeys("a").plan).chmod(0)
    # To root, permissions mean nothing until it gives up the right to pass over them.
    bound_by_permissions = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    command = [sys.executable, "-m", QUERY, "--store", str(store.root), "--sweep", "a", "SELECT 1"]
    prefix = bound_by_permissions if os.geteuid() == 0 else []
    done = subprocess.run([*prefix, *command], cwd=ROOT, capture_output=True, text=True)
    line = the_line(Ended(done.returncode, done.stdout, done.stderr))
    assert "ermission denied" in line


def test_a_bucket_answers_as_a_directory_does(
    server: Seaweed, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = fresh_url(entered(server.server, monkeypatch))
    bucket = open_store(url)
    plan = planned(bucket, ablation(seeds=[1]), "a")
    commit_all(bucket, plan)
    where = ("--store", url, "--sweep", "a", "--format", "json")
    before = bucket.list("sweeps/")
    ended = started(*where, COUNT, module=QUERY)
    assert (ended.code, json.loads(ended.stdout)) == (0, [{"sweep": "a", "n": 8}])
    words = called(*where, "--table", "divergence", "--rows", "--columns", "exact", module=QUERY)
    assert (words.code, len(json.loads(words.stdout))) == (0, len(plan.cells))
    assert bucket.list("sweeps/") == before
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
    line = the_line(called(*where, COUNT, module=QUERY))
    assert "SignatureDoesNotMatch" in line
    assert "planted" not in line


def test_nothing_is_written_into_the_store(store: LocalStore) -> None:
    before = {path: path.read_bytes() for path in files(store.root)}
    for words in (["SELECT * FROM divergence"], ["--table", "trials"], ["--schema"]):
        assert asked(store, *words, sweep="a,c").code == 0
    assert {path: path.read_bytes() for path in files(store.root)} == before


def test_the_command_starts_without_what_is_slow_to_import(store: LocalStore) -> None:
    program = f"""
import sys
from jobs.query import command
words = ["--store", {str(store.root)!r}, "--sweep", "a", "--table", "trials"]
command(words, standalone_mode=False)
assert not {{"torch", "ray", "boto3", "matplotlib", "prompt_toolkit"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    assert started("--help", module=QUERY).code == 0


def test_a_notebook_asks_in_one_line(store: LocalStore) -> None:
    r = results(str(store.root), "a")
    assert r.sql("SELECT count(*) AS n FROM trials WHERE rule = ?", "IL").arrow()[
        "n"
    ].to_pylist() == [3]
    assert len(r.trials) == 8
    assert r.epochs.pandas().equals(r.sql("SELECT * FROM epochs").pandas())
    assert set(r.tables) <= set(dir(r))
    with pytest.raises(AttributeError, match="'trails'"):
        r.trails  # noqa: B018
    assert "final_test_error" in repr(r.schema("trials"))
    assert len(copy.copy(r).trials) == 8


def test_a_notebooks_summary_is_the_commands(store: LocalStore) -> None:
    found = results(str(store.root), "a+b").summary(
        "trials", where={"rule": "IL", "t": [16, None]}, columns=["final_test_error"], limit=5
    )
    said = rows(
        store, "--table", "trials", "--filter", "rule=IL", "--filter", "t=16|null", "--columns",
        "final_test_error", "--limit", "5", sweep="a+b",
    )  # fmt: skip
    assert found.arrow().to_pylist() == said != []
    same = results(str(store.root), "a+b").summary(
        "trials", where=["rule=IL", "t=16|"], columns=["final_test_error"], limit=5
    )
    assert same.arrow() == found.arrow()


def test_a_notebook_sees_what_is_committed_now(store: LocalStore) -> None:
    r = results(str(store.root), "c")
    assert (len(r.trials), r.remarks) == (0, ("c: 8 of 8 trials have no result",))
    (plan,) = r._session._views[0].asked.plans
    for shard in plan.shards:
        commit(store, plan, shard)
    assert (len(r.trials), r.remarks) == (8, ())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_are_equal_bit_for_bit_as_arrays_and_as_tensors(tmp_path: Path, dtype: str) -> None:
    store = LocalStore(tmp_path)
    plan = planned(store, ablation(dtype=dtype), "a")
    commit_all(store, plan, lambda trial: 2.0**-10)
    r = results(str(tmp_path), "a")
    for trial in plan.trials[:2]:
        arrays = r.weights(trial.trial_id)
        tensors = r.weights(trial.trial_id, torch=True)
        table = r.sql("SELECT * FROM weights WHERE trial_id = ?", trial.trial_id).arrow()
        assert len(arrays) == len(table) == 2
        for row in table.to_pylist():
            array = arrays[row["layer"]][row["parameter"]]
            tensor = tensors[row["layer"]][row["parameter"]]
            assert tensor.dtype == getattr(torch, dtype)
            assert list(tensor.shape) == row["shape"]
            assert tensor.numpy().tobytes() == array.tobytes()
            assert array.astype(np.float64).ravel().tolist() == row["value"]
    with pytest.raises(InputError, match="no final weights"):
        r.weights("nobody")
