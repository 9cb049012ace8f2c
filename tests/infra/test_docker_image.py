"""Tests of the Dockerfile: a linter finds no mistake, and what no linter asks for is there."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from ray.autoscaler._private.command_runner import SSHCommandRunner
from ray.autoscaler.node_provider import NodeProvider

ROOT = Path(__file__).resolve().parents[2]
RECIPE = (ROOT / "infra" / "Dockerfile").read_text()


def lint(recipe: str) -> str:
    """The findings of hadolint as text, empty if there are none."""
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
    """Kubernetes needs a number to see that a user is not root. No linter asks for a USER."""
    assert re.findall(r"^USER (.+)$", RECIPE, re.MULTILINE)[-1] == "1000"
    assert "useradd --uid 1000" in RECIPE


def test_the_context_has_what_is_copied_and_nothing_else() -> None:
    copied = re.findall(r"^COPY (.+) \S+$", RECIPE, re.MULTILINE)
    allowed = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    assert sorted(" ".join(copied).split()) == sorted(allowed)
    assert all((ROOT / name).exists() for name in allowed)


def test_torch_of_another_index_satisfies_the_constraints() -> None:
    """The version of a wheel for CPUs is 2.15.0+cpu. The image's second step must accept it."""
    constraints = (ROOT / "constraints.txt").read_text()
    first = [Requirement(line) for line in re.findall(r"^torch(?:vision)?==.+$", constraints, re.M)]
    assert [requirement.name for requirement in first] == ["torch", "torchvision"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {Requirement(line).name: Requirement(line) for line in project["dependencies"]}
    for pinned in first:
        (version,) = (specifier.version for specifier in pinned.specifier)
        assert pinned.specifier.contains(f"{version}+cpu")
        assert asked[pinned.name].specifier.contains(f"{version}+cpu")


class AddressProvider(NodeProvider):
    """A cloud that only knows the address of its nodes."""

    def internal_ip(self, node_id: str) -> str:
        return "10.0.0.1"


class Recorder:
    """Replaces `subprocess` in Ray's command runner. It records the programs and runs none."""

    def __init__(self) -> None:
        self.programs: set[str] = set()

    def check_call(self, command: list[str], **_: Any) -> None:
        self.programs.add(command[0])
        if "--rsh" in command:
            self.programs.add(command[command.index("--rsh") + 1].split()[0])


def test_the_image_has_the_programs_by_which_ray_reaches_a_worker() -> None:
    """Ray's autoscaler runs on the head, in this image, and sets the workers up from there."""
    recorder = Recorder()
    runner = SSHCommandRunner(
        log_prefix="",
        node_id="i-1",
        provider=AddressProvider({}, "zilsweep"),
        auth_config={"ssh_user": "ubuntu"},
        cluster_name="zilsweep",
        process_runner=recorder,
        use_internal_ip=True,
    )
    runner.run("true")
    runner.run_rsync_up("here", "there")
    packages = {"ssh": "openssh-client", "rsync": "rsync"}
    assert recorder.programs == set(packages)
    (installed,) = re.findall(r"apt-get install .*--no-install-recommends (.+) \\$", RECIPE, re.M)
    assert set(packages.values()) <= set(installed.split())


def test_no_secret_is_in_the_image() -> None:
    assert not re.search(r"(?i)aws_|secret|password|auth_token\b|_TOKEN=", RECIPE)
