"""The sources, the machine and the libraries that have produced something that is stored."""

import hashlib
import platform
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pcworker.fingerprint import fingerprint

ROOT = Path(__file__).resolve().parents[2]
"""The folder that holds the packages: a checkout, or where they are installed."""
PACKAGES = ("pcworker", "cluster", "jobs")
"""The folders of our own sources."""
NO_SOURCES = (".?*", "#*", "*~", "__pycache__", "*.pyc", "*.md")
"""The names of files and folders in the packages that are no sources: notes, and what editors and
other tools leave there, such as `.#engine.py`. `.rayignore` has the same patterns."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """The provenance of a plan or a table. It is stored, so it holds no environment variables and
    no secrets."""

    code_sha256: str
    git_commit: str | None = None
    git_dirty: bool | None = None
    """True if the sources differ from that commit. Both are None without a repository."""
    hostname: str
    versions: Mapping[str, str]
    """The versions of Python and of the libraries that a result may depend on, by name."""
    command: tuple[str, ...] = ()
    """The command line as it was typed."""


@dataclass(frozen=True, kw_only=True)
class WorkerProvenance(Provenance):
    """The provenance of a shard's results: a commit holds it under the key `where`."""

    sweep: str
    device: str
    """The device's name and, after training, the kernel. `hostname` is the worker's: it has the
    node's id too where several nodes run on one host."""
    node_id: str = ""
    numerics: Mapping[str, Any] = field(default_factory=dict)
    """The settings of torch and the processor that the bits of a result may depend on."""


def sources(root: Path) -> list[Path]:
    """The sources in the packages below `root`, in whatever language, by package and path. They are
    what is hashed, and what is shipped to a cluster."""
    found = (path for package in PACKAGES for path in sorted((root / package).rglob("*")))
    return [path for path in found if path.is_file() and _is_source(path.relative_to(root))]


def _is_source(path: Path) -> bool:
    return not any(fnmatchcase(part, pattern) for part in path.parts for pattern in NO_SOURCES)


@cache
def code_sha256() -> str:
    """sha256 over the paths and the contents of the sources, in the order of `sources`."""
    digest = hashlib.sha256()
    for path in sources(ROOT):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(ROOT).as_posix()} {content}\n".encode())
    return digest.hexdigest()


@cache
def git_state() -> tuple[str | None, bool | None]:
    """The commit of the sources' repository, and True if the sources differ from it. Both are None
    without a repository."""
    try:
        if Path(_git("rev-parse", "--show-toplevel")) != ROOT:
            return None, None  # The packages are installed inside somebody else's repository.
        commit = _git("rev-parse", "HEAD")
        return commit, bool(_git("status", "--porcelain"))
    except (OSError, subprocess.SubprocessError):
        return None, None


@cache
def library_versions() -> dict[str, str]:
    """The versions of the libraries that a result may depend on, by name."""
    return {name: version(name) for name in ("numpy", "pyarrow", "ray", "torch")}


def provenance(command: Sequence[str]) -> Provenance:
    """The provenance of what this process stores. `command` is the command line to record."""
    commit, dirty = git_state()
    return Provenance(
        code_sha256=code_sha256(),
        git_commit=commit,
        git_dirty=dirty,
        hostname=socket.gethostname(),
        versions={"python": platform.python_version(), **library_versions()},
        command=tuple(command),
    )


def node_name(host: str, node_id: str, nodes: Iterable[Mapping[str, Any]]) -> str:
    """The name of a Ray node: its host's name, followed by 8 digits of `node_id` if several living
    nodes run on that host.

    nodes  all nodes of the cluster, as `ray.nodes()` returns them
    """
    same = [node for node in nodes if node["Alive"] and node["NodeManagerHostname"] == host]
    return f"{host}/{node_id[:8]}" if len(same) > 1 else host


def result_fingerprint(where: WorkerProvenance, sums: str) -> str:
    """A fingerprint of everything that the bits of a result may depend on: the sources and, unless
    the sums are "fixed", the libraries and the device too."""
    machine = [dict(where.versions), where.device, dict(where.numerics)]
    return fingerprint([where.code_sha256, *([] if sums == "fixed" else machine)])


def command_line() -> list[str]:
    """The command that this process runs, as it was typed."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = ["-m", spec.name.removesuffix(".__main__")] if spec else [Path(sys.argv[0]).name]
    return ["python", *program, *sys.argv[1:]]


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
