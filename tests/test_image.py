"""The image's recipe: what a linter says of it, and what it must have whatever a linter says."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
RECIPE = (ROOT / "infra" / "Dockerfile").read_text()


def lint(recipe: str) -> str:
    """What hadolint finds, empty for nothing."""
    hadolint = shutil.which("hadolint", path=Path(sys.executable).parent)
    assert hadolint is not None
    done = subprocess.run(
        [hadolint, "--no-color", "-"], input=recipe, capture_output=True, text=True
    )
    assert (done.returncode == 0) == (not done.stdout), done.stderr
    return done.stdout


def test_the_linter_finds_nothing() -> None:
    assert lint(RECIPE) == ""


@pytest.mark.parametrize(
    ("was", "planted", "rule"),
    [
        ("USER 1000", "USER root", "DL3002"),
        (":3.11.13-slim-bookworm", "", "DL3006"),
        (" --no-install-recommends", "", "DL3015"),
        ("PIP_NO_CACHE_DIR=1 ", "", "DL3042"),
        ("WORKDIR /opt/zilsweep", "WORKDIR opt/zilsweep", "DL3000"),
        ("COPY jobs jobs", "COPI jobs jobs", "unexpected 'C'"),
        ('if [ -n "$TORCH_INDEX" ]; then', 'if [ -n "$TORCH_INDEX" ];', "SC1072"),
    ],
)
def test_a_planted_mistake_is_found(was: str, planted: str, rule: str) -> None:
    assert was in RECIPE
    assert rule in lint(RECIPE.replace(was, planted))


def test_what_runs_is_not_root_and_knows_its_uid() -> None:
    """Kubernetes can tell that a user is not root only by a number; no linter asks for a USER."""
    assert re.findall(r"^USER (.+)$", RECIPE, re.MULTILINE)[-1] == "1000"
    assert "useradd --uid 1000" in RECIPE


def test_the_context_has_what_is_copied_and_nothing_else() -> None:
    copied = re.findall(r"^COPY (.+) \S+$", RECIPE, re.MULTILINE)
    allowed = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert sorted(" ".join(copied).split()) == sorted(allowed)
    assert all((ROOT / name).exists() for name in allowed)


def test_torch_of_another_index_satisfies_the_constraints() -> None:
    """Wheels for CPUs are called 2.15.0+cpu: the second step of the image must accept them."""
    constraints = (ROOT / "constraints.txt").read_text()
    first = [Requirement(line) for line in re.findall(r"^torch(?:vision)?==.+$", constraints, re.M)]
    assert [requirement.name for requirement in first] == ["torch", "torchvision"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {Requirement(line).name: Requirement(line) for line in project["dependencies"]}
    for pinned in first:
        (version,) = (specifier.version for specifier in pinned.specifier)
        assert pinned.specifier.contains(f"{version}+cpu")
        assert asked[pinned.name].specifier.contains(f"{version}+cpu")


def test_no_secret_is_in_the_image() -> None:
    assert not re.search(r"(?i)aws_|secret|password|auth_token\b|_TOKEN=", RECIPE)
