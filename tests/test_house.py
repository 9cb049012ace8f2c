"""Tests of the rules that keep rooms small and third-party libraries where they belong.

The rules of which of our own modules may import which are in pyproject.toml. `make check` tests
them.
"""

import ast
import importlib.util
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from pcworker.machine.provenance import PACKAGES, sources

ROOT = Path(__file__).resolve().parents[1]
EVERY_COMMAND = {"command", "main"}
"""Public names that every command line of `jobs` defines."""
APART = {"jobs/benchmark/peers.py"}
"""Modules that run in an environment of their own, so that no other module can import them."""


def modules() -> dict[str, Path]:
    """Every module of the packages by its path from the root."""
    paths = (path for path in sources(ROOT) if path.suffix == ".py")
    return {path.relative_to(ROOT).as_posix(): path for path in sorted(paths)}


def rooms() -> list[Path]:
    """Every folder of Python modules inside the packages, without the packages themselves."""
    return sorted({path.parent for path in modules().values()} - {ROOT / p for p in PACKAGES})


def files(room: Path) -> list[Path]:
    return sorted(path for path in room.glob("*.py") if path.stem != "__init__")


def imports(path: Path) -> set[str]:
    """The packages, without submodules, that a file imports anywhere in it."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = (name.name for node in nodes if isinstance(node, ast.Import) for name in node.names)
    assert not any(node.level for node in nodes if isinstance(node, ast.ImportFrom)), path
    of = (node.module or "" for node in nodes if isinstance(node, ast.ImportFrom))
    return {name.partition(".")[0] for name in (*plain, *of)}


def importers(package: str) -> set[str]:
    return {name for name, path in modules().items() if package in imports(path)}


def public_names(path: Path) -> Iterator[str]:
    """The public functions, classes and constants that a module defines."""
    for node in ast.parse(path.read_text()).body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                found = [name]
            case ast.Assign(targets=targets):
                found = [target.id for target in targets if isinstance(target, ast.Name)]
            case ast.AnnAssign(target=ast.Name(id=name)):
                found = [name]
            case _:
                found = []
        yield from (name for name in found if not name.startswith("_"))


@pytest.mark.parametrize("room", rooms(), ids=lambda room: room.relative_to(ROOT).as_posix())
def test_a_room_has_at_most_12_files_and_about_1500_lines(room: Path) -> None:
    assert 2 <= len(files(room)) <= 12
    assert sum(len(path.read_text().splitlines()) for path in files(room)) <= 1500


@pytest.mark.parametrize("room", rooms(), ids=lambda room: room.relative_to(ROOT).as_posix())
def test_a_third_file_with_a_common_prefix_opens_a_room(room: Path) -> None:
    prefixes = Counter(path.stem.partition("_")[0] for path in files(room) if "_" in path.stem[1:])
    assert not [prefix for prefix, count in prefixes.items() if count > 2]


@pytest.mark.parametrize("room", rooms(), ids=lambda room: room.relative_to(ROOT).as_posix())
def test_a_files_name_does_not_repeat_its_rooms(room: Path) -> None:
    words = {path.stem: path.stem.split("_") for path in files(room)}
    assert not [stem for stem, parts in words.items() if room.name in parts and len(parts) > 1]


def test_a_public_name_is_defined_once() -> None:
    where = defaultdict(list)
    for name, path in modules().items():
        for public in () if name in APART else public_names(path):
            where[public].append(name)
    twice = {name: found for name, found in where.items() if len(found) > 1}
    assert {name: found for name, found in twice.items() if name not in EVERY_COMMAND} == {}


def test_no_file_looks_like_a_test_that_is_none() -> None:
    assert not [name for name in modules() if "test" in Path(name).stem.split("_")]


@pytest.mark.parametrize("room", rooms(), ids=lambda room: room.relative_to(ROOT).as_posix())
def test_a_rooms_readme_is_short(room: Path) -> None:
    readme, most = room / "README.md", 60 if room.parts[-2] != "jobs" else 150
    if room.name == "fixed":
        most = 125  # the page defines an arithmetic, and has to be complete
    if not readme.is_file():
        pytest.skip("this room explains itself")
    assert len(readme.read_text().splitlines()) <= most


@pytest.mark.parametrize("name", [name for name in modules() if name.endswith("__init__.py")])
def test_a_package_itself_imports_nothing(name: str) -> None:
    assert imports(ROOT / name) == set()


def test_the_packages_that_are_imported_are_this_repositorys() -> None:
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin == str(ROOT / name / "__init__.py")


def test_only_the_actor_and_those_who_speak_to_a_cluster_know_ray() -> None:
    cluster = {
        *("cluster/nodes/connect.py", "cluster/nodes/errors.py", "cluster/preflight/look.py"),
        *("cluster/driver/pools/on_ray.py", "cluster/driver/pools/workers.py"),
        *("cluster/driver/pools/kinds.py", "cluster/driver/metrics.py"),
        "cluster/nodes/autoscaler.py",
    }
    assert importers("ray") == {"pcworker/actor.py", *cluster}


def test_only_the_s3_store_knows_boto3() -> None:
    assert importers("boto3") == {"pcworker/store/s3/s3.py"}
