"""The files that go to a cluster with a submitted job: the sources. `.rayignore` tells Ray so."""

from collections.abc import Sequence
from pathlib import Path

from pcworker.errors import InputError
from pcworker.machine.provenance import PACKAGES, sources

MOST_BYTES = 100 * 2**20
"""The most bytes that a Ray dashboard takes. Ray's own message names no file that is too large."""
_NAMED = 10
"""The number of files that our message names."""


def shipped(root: Path) -> list[tuple[Path, int]]:
    """Returns the files that are shipped from the checkout `root`, each with its size in bytes, the
    largest first.

    InputError if `root` is no checkout.
    """
    if not (root / ".rayignore").is_file():
        raise InputError(
            f"{root} has no .rayignore, so that everything in it would be shipped: submit from a "
            "checkout of the repository"
        )
    sizes = [(path.relative_to(root), path.stat().st_size) for path in sources(root)]
    return sorted(sizes, key=lambda entry: (-entry[1], entry[0]))


def require_fits(files: Sequence[tuple[Path, int]]) -> int:
    """Returns the bytes of all files together. InputError, which names the largest files, if a
    cluster would refuse so many."""
    total = sum(size for _, size in files)
    if total > MOST_BYTES:
        largest = ", ".join(f"{path} ({size / 2**20:.1f} MiB)" for path, size in files[:_NAMED])
        raise InputError(
            f"the working directory has {total / 2**20:.0f} MiB to ship, and a cluster takes "
            f"{MOST_BYTES / 2**20:.0f}; move data out of {', '.join(PACKAGES)}. The largest files: "
            f"{largest}"
        )
    return total
