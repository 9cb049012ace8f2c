"""What produced a result: the sources, the machine, the libraries."""

import hashlib
import platform
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pcworker.fingerprint import fingerprint

ROOT = Path(__file__).resolve().parents[2]
"""The folder that holds the packages: a checkout, or where they are installed."""
PACKAGES = ("pcworker", "cluster", "jobs")


@cache
def code_sha256() -> str:
    """sha256 over the packages' sources, in whatever language: their paths and their contents, in
    the order of the paths."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted(filter(_is_source, (ROOT / package).rglob("*"))):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{path.relative_to(ROOT).as_posix()} {content}\n".encode())
    return digest.hexdigest()


def _is_source(path: Path) -> bool:
    """Whether a file of a package can change a result: all but notes and what tools leave there."""
    parts = path.relative_to(ROOT).parts
    hidden = "__pycache__" in parts or any(part.startswith(".") for part in parts)
    return path.is_file() and not hidden and path.suffix not in (".md", ".pyc")


@cache
def git_state() -> tuple[str | None, bool | None]:
    """The commit of the sources' repository, and whether it has changes; None without one."""
    try:
        if Path(_git("rev-parse", "--show-toplevel")) != ROOT:
            return None, None  # installed inside somebody else's repository
        commit = _git("rev-parse", "HEAD")
        return commit, bool(_git("status", "--porcelain"))
    except (OSError, subprocess.SubprocessError):
        return None, None


@cache
def library_versions() -> dict[str, str]:
    """Versions of the libraries that a result may depend on."""
    return {name: version(name) for name in ("numpy", "pyarrow", "ray", "torch")}


def provenance() -> dict[str, object]:
    """What is stored beside every result; no environment, no secrets."""
    commit, dirty = git_state()
    return {
        "code_sha256": code_sha256(),
        "git_commit": commit,
        "git_dirty": dirty,
        "hostname": socket.gethostname(),
        "versions": {"python": platform.python_version(), **library_versions()},
    }


def node_name(host: str, node_id: str, nodes: Iterable[Mapping[str, Any]]) -> str:
    """The name of a Ray node: its host's name, followed by 8 digits of `node_id` if several living
    nodes run on that host.

    nodes  all nodes of the cluster, as `ray.nodes()` returns them
    """
    same = [node for node in nodes if node["Alive"] and node["NodeManagerHostname"] == host]
    return f"{host}/{node_id[:8]}" if len(same) > 1 else host


def result_fingerprint(where: Mapping[str, Any]) -> str:
    """Of all in a result's provenance that its bits may depend on: sources, libraries, device."""
    names = ("code_sha256", "versions", "device", "numerics")
    return fingerprint([where[name] for name in names])


def command_line() -> list[str]:
    """The command that this process runs, as it was typed."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    program = ["-m", spec.name.removesuffix(".__main__")] if spec else [Path(sys.argv[0]).name]
    return ["python", *program, *sys.argv[1:]]


def code_metadata(values: Mapping[str, Any]) -> dict[str, str]:
    """Of `provenance()`, what every file's metadata carries: the sources' hash, and git's state
    where there is a repository."""
    names = ("code_sha256", "git_commit", "git_dirty")
    return {name: str(values[name]).lower() for name in names if values[name] is not None}


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
