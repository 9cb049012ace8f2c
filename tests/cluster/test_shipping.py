"""What is hashed as the sources and what is shipped to a cluster is one list, and Ray packs it."""

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from ray._private.runtime_env.packaging import create_package
from running import ROOT

from cluster.nodes.shipping import shipped
from pcworker.machine.provenance import PACKAGES, code_sha256

LEFT_OVER = (
    *("pcworker/.engine.py.swp", "pcworker/#engine.py#", "pcworker/engine.py~"),
    *("jobs/.idea/module.py", "jobs/__pycache__/submit.cpython-311.pyc", "jobs/.DS_Store"),
    *("cluster/notes.md", "results/a.py", ".env", "notes.txt"),
)
"""What editors, other tools and users leave beside the sources."""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the sources."""
    root = tmp_path / "checkout"
    for name in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, root / name, ignore=ignored)
    shutil.copy(ROOT / ".rayignore", root)
    shutil.copy(ROOT / ".gitignore", root)
    return root


def leave(root: Path) -> None:
    for name in LEFT_OVER:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("print('left over')")
    # Emacs locks a file that is being edited by a link that leads nowhere.
    (root / "pcworker" / ".#engine.py").symlink_to("me@here.4711:1764000000")
    (root / "jobs" / ".#README.md").symlink_to("me@here.4711:1764000000")


def test_ray_packs_what_is_shipped_and_nothing_else(checkout: Path, tmp_path: Path) -> None:
    before = shipped(checkout)
    leave(checkout)
    assert shipped(checkout) == before
    create_package(str(checkout), tmp_path / "package.zip", include_gitignore=True)
    with ZipFile(tmp_path / "package.zip") as package:
        files = {i.filename: i.file_size for i in package.infolist() if not i.is_dir()}
    assert files == {path.as_posix(): size for path, size in before}
    assert {"jobs/mnist_ablation/__main__.py", "pcworker/kernels/fused/fused.c"} <= files.keys()


def test_what_is_left_beside_the_sources_changes_no_hash_and_ends_no_command(
    checkout: Path,
) -> None:
    leave(checkout)
    program = "from pcworker.machine.provenance import code_sha256; print(code_sha256())"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=checkout, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == (f"{code_sha256()}\n", "")
