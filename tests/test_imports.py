"""Who may import whom: what keeps planning quick, and the mathematics free of services."""

import ast
import importlib.util
from pathlib import Path

import pytest

import cluster

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("pcworker", "cluster", "jobs")
MATHEMATICS = (
    *("activations", "layers", "inference", "schedule", "backprop", "stack", "packing"),
    *("activity", "detector", "modules", "module_network", "method", "predictive", "networks"),
    *("measures", "training", "engine", "dataset", "batches", "randomness"),
    *("timing", "stopwatch", "learners", "timing_engine", "images"),
    *("benchmark", "contenders", "rounds", "exactness"),
)


def modules() -> dict[str, Path]:
    """Every module of the packages by its dotted name."""
    paths = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in paths}


def imports(path: Path) -> set[str]:
    """The packages, without submodules, that a file imports anywhere in it."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    plain = (name.name for node in nodes if isinstance(node, ast.Import) for name in node.names)
    assert not any(node.level for node in nodes if isinstance(node, ast.ImportFrom)), path
    of = (node.module or "" for node in nodes if isinstance(node, ast.ImportFrom))
    return {name.partition(".")[0] for name in (*plain, *of)}


def importers(package: str) -> set[str]:
    return {name for name, path in modules().items() if package in imports(path)}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_itself_imports_nothing(package: str) -> None:
    assert imports(ROOT / package / "__init__.py") == set()


def test_the_packages_that_are_imported_are_this_repositorys() -> None:
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin == str(ROOT / name / "__init__.py")
    assert Path(cluster.__file__).is_relative_to(ROOT)


def test_only_the_actor_and_the_dispatchers_modules_know_ray() -> None:
    dispatcher = {
        f"cluster.{name}"
        for name in ("connect", "pool", "dispatch", "failures", "metrics", "preflight_look")
    }
    assert importers("ray") == {"pcworker.actor", *dispatcher}


def test_only_those_who_read_and_write_tables_know_pyarrow() -> None:
    kinds = {"pcworker.timing_records", "pcworker.detection_records"}
    records = {"pcworker.records", "pcworker.commit", *kinds}
    assert importers("pyarrow") <= {*records, "cluster.reading", "cluster.collect"}


def test_only_the_s3_store_knows_boto3() -> None:
    assert importers("boto3") == {"pcworker.s3_store"}


@pytest.mark.parametrize("name", MATHEMATICS)
def test_the_mathematics_knows_no_services(name: str) -> None:
    known = imports(modules()[f"pcworker.{name}"])
    assert not known & {"ray", "boto3", "pyarrow", "cluster", "jobs"}


def test_imports_point_from_jobs_to_cluster_to_pcworker_and_never_back() -> None:
    assert not importers("jobs") - {name for name in modules() if name.startswith("jobs.")}
    assert not {name for name in importers("cluster") if name.startswith("pcworker")}
    assert importers("infra") == set()
