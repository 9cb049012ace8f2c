"""Tests that the READMEs are true: every command can be parsed or run, every name in them exists.

The commands of jobs and of Ray are parsed by their own parsers. The sweeps of these commands are
declared, but not run. SQL and Python are run on the tables of tiny made-up sweeps. A README says
which of its commands the tests do not run.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, get_args

import click
import duckdb
import pyarrow as pa
import pytest
from builders import ablation, collected, commit_all, planned
from command_lines import command_of
from ray.scripts.scripts import cli as ray
from readmes import FOLDERS, ROOT, Block, anchors, blocks, commands, links, readmes, spans, text_of

from cluster.experiment import Experiment
from cluster.nodes.resources import device_of
from cluster.results.collect import collect, write_tables
from cluster.sweeps.plan import make_plan
from cluster.sweeps.sweep import Sweep
from jobs.any_network.experiment import ANY_NETWORK
from jobs.any_network.sweep import any_network
from jobs.detection_rate.experiment import DETECTION
from jobs.detection_rate.sweep import detection_rate
from jobs.experiments import EXPERIMENTS
from jobs.imagenet_timing.experiment import TIMING
from jobs.imagenet_timing.sweep import imagenet_timing
from jobs.mnist_ablation.sweep import mnist_ablation
from jobs.options import split
from pcworker.store.keys import KeyKind, SweepKeys
from pcworker.store.local import LocalStore
from pcworker.store.parquet import to_parquet

SHELL = ("export", ".", "cd", "mkdir")
ELSEWHERE = ("git", "docker", "aws", "eksctl", "kubectl", "base64")
"""Programs of other systems. A README must say that the tests do not run them."""
WITHOUT_OPTIONS = "jobs.gpu_speed"
"""The job that runs where click may be missing."""
SUFFIXES = (".py", ".md", ".c", ".txt", ".csv", ".png", ".yaml", ".toml")


def parsed(command: click.Command, words: Sequence[str]) -> dict[str, Any]:
    """The values with which click would call the command for these words."""
    while isinstance(command, click.Group):
        command, words = command.commands[words[0]], words[1:]
    return command.make_context(command.name, list(words)).params


def check_job(words: Sequence[str]) -> None:
    """Parses the command line of a job, and declares the sweep that it asks for."""
    module, *options = words
    if module == WITHOUT_OPTIONS:
        assert not options
        return
    if options == ["--help"]:
        command_of(module)
        return
    given = parsed(command_of(module), options)
    if "job" in given:  # jobs.submit has this argument
        check_job(given["job"])
    if "seeds" in given and "address" in given:
        assert declared(module, given).trials


def declared(module: str, given: dict[str, Any]) -> Sweep[Any]:
    """The sweep that a job declares for these arguments."""
    options = split(given)
    if module == "jobs.imagenet_timing":
        if not given.pop("with_loading"):
            given["loaders"] = None
        return imagenet_timing(**given, **device_of(options.resources), data="synthetic")
    if module == "jobs.any_network":
        return any_network(data=given.pop("data_set"), **given, **device_of(options.resources))
    return {"jobs.mnist_ablation": mnist_ablation, "jobs.detection_rate": detection_rate}[module](
        **given
    )


def check_python(words: Sequence[str]) -> None:
    """Checks a call of python, which must start a job or the tests themselves."""
    assert words[0] == "-m", words
    if words[1] != "pytest":
        check_job(words[1:])


def check_ray(words: Sequence[str]) -> None:
    """Parses a command line of Ray, and that of the job that it submits."""
    given = parsed(ray, words)
    if entrypoint := given.get("entrypoint"):
        assert entrypoint[0] == "python"
        check_python(entrypoint[1:])


def check_make(words: Sequence[str]) -> None:
    """Checks that the targets exist, and parses the jobs that their recipes call."""
    targets = [word for word in words if "=" not in word]
    assert targets and set(targets) <= make_targets(), words
    for target in targets:
        for recipe in commands(recipe_of(target)):
            if "-m" in recipe and (module := recipe[recipe.index("-m") + 1]).startswith("jobs."):
                check_job([module, *recipe[recipe.index("-m") + 2 :]])


@cache
def make_targets() -> frozenset[str]:
    makefile = (ROOT / "Makefile").read_text()
    return frozenset(re.findall(r"^([a-z][a-z0-9-]*):", makefile, re.MULTILINE))


@cache
def recipe_of(target: str) -> str:
    """The commands that make would run for a target in a fresh checkout."""
    make = ["make", "--dry-run", "--always-make", target]
    done = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True)
    calls = re.findall(r"^\S+ -m jobs(?:.*\\\n)*.*$", done.stdout, re.MULTILINE)
    return "\n".join(calls)


CHECKS = {
    "make": check_make,
    "python": check_python,
    ".venv/bin/python": check_python,
    "ray": check_ray,
}


@pytest.mark.parametrize("block", blocks("sh"), ids=str)
def test_every_command_is_parsed_by_its_own_parser_or_said_not_to_be_run(block: Block) -> None:
    for program, *words in commands(block.text):
        if program in CHECKS and not words[0].endswith(".py"):
            CHECKS[program](words)
        elif program not in SHELL:
            assert program in (*ELSEWHERE, *CHECKS), f"this test knows no {program}"
            assert block.noted, f"{program} is not said to be not run by the tests"
        for word in words:
            if word.partition("/")[0] in FOLDERS:
                assert (ROOT / word).exists(), word


@pytest.mark.parametrize("block", blocks("sh"), ids=str)
def test_every_script_is_one_for_the_shell(block: Block) -> None:
    done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def after_sweeps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tables of made-up sweeps, where a user would have those of real ones."""
    folder = tmp_path_factory.mktemp("readmes")
    (folder / "infra").symlink_to(ROOT / "infra")
    store = LocalStore(folder / "results")
    plan = planned(
        store, ablation(networks=["784-32-32-10"], t=[None, 4, 16], gamma=[0.5, 1.0]), "mnist"
    )
    commit_all(store, plan, lambda trial: 0.0 if trial.configuration.rule != "IL" else 0.125)
    write_tables(store, collected(store, "mnist"))
    sweeps = folder / "results" / "sweeps"
    shutil.copytree(sweeps / "mnist", sweeps / "figure3")
    where = {"stage": 3000, "horizon": 32, "tolerance": 0.0, "t_d": 1, "gamma": 1.0}
    base = {"dtype": "float32", "arithmetic": "textbook", "weights": "learning"}
    counts = {"pairs": 200, "only_at_l": 150, "missed_late": 10}
    put_row(store, "table3", DETECTION, **where, **base, **counts)
    put_row(store, "families", ANY_NETWORK, network="rnn", exact=True)
    put_row(store, "table4", TIMING, network="alexnet", ms_per_update_median=1.0)
    return folder


def put_row(store: LocalStore, name: str, experiment: Experiment, **values: Any) -> None:
    """Stores the main table of an experiment with one row."""
    kind = experiment.tables.per_trial
    made = pa.Table.from_pylist([values], schema=empty_tables(store, experiment)[kind].schema)
    store.put(SweepKeys(name).table(kind), to_parquet(made))


def empty_tables(store: LocalStore, experiment: Experiment) -> Mapping[str, pa.Table]:
    """The tables that the collector makes of a sweep without a result."""
    module = ".".join(experiment.report.__module__.split(".")[:2])
    plan = make_plan(experiment, declared(module, parsed(command_of(module), [])), "nothing-yet")
    return collect(store, [plan]).tables


@pytest.mark.parametrize("block", blocks("sql"), ids=str)
def test_every_query_runs_and_finds_something(
    block: Block, after_sweeps: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(after_sweeps)
    for query in block.text.split(";"):
        with duckdb.connect() as connection:
            assert connection.execute(query).fetchall()


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_every_python_script_runs(
    block: Block, after_sweeps: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(after_sweeps)
    exec(compile(block.text, block.readme, "exec"), {})


def test_every_block_has_a_language() -> None:
    assert {block.language for block in blocks()} <= {"sh", "python", "sql", "text"}


@pytest.mark.parametrize("readme", readmes())
def test_every_link_leads_somewhere(readme: str) -> None:
    for link in links(readme):
        path, _, anchor = link.partition("#")
        target = os.path.normpath(Path(readme).parent / path) if path else readme
        assert (ROOT / target).exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("readme", readmes())
def test_every_file_module_and_command_that_is_named_exists(readme: str) -> None:
    for span in spans(readme):
        words = span.split()
        if words[0] in CHECKS and ("-m jobs." in span or (words[0] == "make" and words[1:])):
            CHECKS[words[0]](words[1:])
        elif len(words) == 1 and "::" in span:
            assert is_test(readme, *span.split("::")), span
        elif len(words) == 1 and "<" not in span and is_path(span):
            assert files_of(readme, span), span
        elif module := re.match(rf"(?:{'|'.join(FOLDERS)})(?:\.\w+)+$", words[0]):
            assert is_module(module[0]), span


@pytest.mark.parametrize("readme", readmes())
def test_every_option_that_is_named_is_one_of_a_job(readme: str) -> None:
    for span in spans(readme):
        if span.startswith("--"):
            assert set(re.findall(r"--[a-z][a-z0-9-]*", span)) <= options(), span


@cache
def options() -> frozenset[str]:
    """All options of all jobs."""
    modules = {*(ROOT / "jobs").glob("*.py"), *(ROOT / "jobs").glob("*/__main__.py")}
    names = {path.parent.name if path.stem == "__main__" else path.stem for path in modules}
    jobs = {f"jobs.{name}" for name in names - {"__init__", "options", "experiments", "notebook"}}
    every = [option for job in jobs - {WITHOUT_OPTIONS} for option in command_of(job).params]
    return frozenset(name for option in every for name in (*option.opts, *option.secondary_opts))


def is_path(span: str) -> bool:
    return span.endswith(SUFFIXES) or span.partition("/")[0] in FOLDERS


def files_of(readme: str, name: str) -> list[Path]:
    """The files of that name, seen from the root or from the README's folder. A name without a
    folder may be anywhere."""
    exact = [ROOT, (ROOT / readme).parent]
    anywhere = [] if "/" in name else [ROOT / folder for folder in FOLDERS]
    return [
        *(path for folder in exact for path in folder.glob(name)),
        *(path for folder in anywhere for path in folder.rglob(name)),
    ]


def is_test(readme: str, file: str, name: str) -> bool:
    return any(f"def {name}(" in path.read_text() for path in files_of(readme, file))


def is_module(name: str) -> bool:
    """True if a dotted name is that of a module, or of something in a module."""
    path = ROOT / Path(*name.split("."))
    if path.is_dir() or path.with_suffix(".py").is_file():
        return True
    outer = path.parent.with_suffix(".py")
    return outer.is_file() and re.search(rf"\b{path.name}\b", outer.read_text()) is not None


@pytest.mark.parametrize("experiment", EXPERIMENTS.values(), ids=lambda experiment: experiment.name)
def test_every_column_of_every_table_is_explained(experiment: Experiment, tmp_path: Path) -> None:
    """The README of the store or of the table's experiment must name the column."""
    folder = experiment.report.__module__.split(".")[1]
    text = text_of("pcworker/store/README.md") + text_of(f"jobs/{folder}/README.md")
    for table in empty_tables(LocalStore(tmp_path), experiment).values():
        assert not [column for column in table.column_names if not explained(column, text)]


def explained(column: str, text: str) -> bool:
    """True if the text names the column. For a statistic such as `_sd` or `_p10` it is enough that
    the text names the column of the mean or the median."""
    stem, _, statistic = column.rpartition("_")
    named = partial(str.__contains__, text)
    if named(f"`{column}`"):
        return True
    others = (f"`{stem}_{first}`" for first in ("mean", "median"))
    return statistic in ("sd", "min", "max", "p10", "p90") and any(map(named, others))


def test_the_layout_of_a_store_is_the_one_that_keys_make() -> None:
    (layout,) = (b for b in blocks("text") if b.readme == "pcworker/store/README.md")
    shard = "0000-0123abcd"
    examples = {"<epoch>": "7", "<table>": "trials", "<driver>": "d0", "<shard>": shard}
    examples |= {"<columns>": 16 * "a", "<part>": "0001", "<compaction>": 14 * "1" + "-0123abcd"}
    keys = [line.split()[0] for line in layout.text.splitlines()]
    kinds = []
    for key in keys:
        made = re.sub("<[a-z]+>", lambda part: examples.get(part[0], "a"), key)
        parts = SweepKeys("a").parse(made)
        assert parts is not None, key
        kinds.append(parts.kind)
    assert sorted(kinds) == sorted(get_args(KeyKind))


def test_the_first_page_is_short() -> None:
    assert len(text_of("README.md").splitlines()) <= 230
