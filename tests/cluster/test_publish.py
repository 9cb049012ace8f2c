"""Tests of the lines that a user is shown after a sweep: whoever copies them must get an answer."""

import shlex
from pathlib import Path

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
    query, report = map(shlex.split, printed_next(done.stdout))
    assert report[1:] == ["-m", "jobs.report", "--store", store.url, "--sweep", "a", "--open"]
    assert query[1:3] == ["-m", "jobs.query"]
    answer = called(*query[3:], module="jobs.query")
    assert (answer.code, answer.stderr) == (0, "")
    assert answer.stdout.splitlines()[-1].split() == ["784-2-10", "rule", "BP"]


def test_the_query_of_sweeps_that_are_collected_together_can_be_copied(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for name, seed in (("a", 1), ("b", 2)):
        commit_all(store, planned(store, ablation(rules=["BP"], seeds=[seed]), name))
    done = called("--store", store.url, "--sweep", "a,b", module="jobs.collect")
    query = shlex.split(printed_next(done.stdout)[0])
    assert "a+b" in query
    answer = called(*query[3:], "--format", "csv", module="jobs.query")
    assert answer.stdout == '"network","panel","rule"\n"784-2-10","rule","BP"\n'


def printed_next(text: str) -> list[str]:
    """The commands of this project that stand below "Next:"."""
    lines = [line.strip() for line in text.split("\nNext:\n")[1].splitlines()]
    return [line for line in lines if " -m jobs." in line]
