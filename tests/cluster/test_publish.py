"""Tests of the lines that a user is shown after a sweep: whoever copies them must get an answer."""

import shlex
from pathlib import Path

import duckdb
import pyarrow
import pyarrow.parquet
import pytest
from builders import ablation, commit_all, planned
from command_lines import called

from pcworker.store.local import LocalStore

FOLDERS = ("plain", "it's", 'it\'s "x"', "rule=IL", "a[1]*{b}?; --", "back\\slash %ü")


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_query_can_be_copied_whatever_the_stores_path_is(tmp_path: Path, folder: str) -> None:
    store = LocalStore(tmp_path / folder)
    commit_all(store, planned(store, ablation(rules=["BP"]), "a"))
    done = called("--store", store.url, "--sweep", "a", module="jobs.collect")
    assert (done.code, done.stderr) == (0, "")
    *before, query, again = printed_next(done.stdout)
    names = {"duckdb": duckdb, "pyarrow": pyarrow}
    for line in before:
        exec(line, names)
    assert eval(query, names).fetchall() == [("784-2-10", "rule", "BP")]
    assert shlex.split(again)[1:] == ["-m", "jobs.collect", "--store", store.url, "--sweep", "a"]


def printed_next(text: str) -> list[str]:
    """The lines below "Next:", up to the command that collects again."""
    lines = [line.strip() for line in text.split("\nNext:\n")[1].splitlines()]
    [last] = [place for place, line in enumerate(lines) if "jobs.collect" in line]
    return lines[: last + 1]
