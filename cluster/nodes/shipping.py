"""What a submitted job takes along: the sources. `.rayignore` says the same to Ray."""

from collections.abc import Sequence
from pathlib import Path

from pcworker.errors import InputError
from pcworker.machine.provenance import PACKAGES

MOST_BYTES = 100 * 2**20
"""What a Ray dashboard takes; Ray's own message does not say which file is too large."""
_NAMED = 10


def shipped(root: Path) -> list[tuple[Path, int]]:
    """The files that are shipped from the checkout `root`, with their bytes; the largest first.

    InputError if `root` is no checkout.
    """
    if not (root / ".rayignore").is_file():
        raise InputError(
            f"{root} has no .rayignore, so that everything in it would be shipped: submit from a "
            "checkout of the repository"
        )
    files = (path for name in PACKAGES for path in (root / name).rglob("*") if path.is_file())
    wanted = (path for path in files if "__pycache__" not in path.parts)
    sizes = [(path.relative_to(root), path.stat().st_size) for path in wanted]
    return sorted(sizes, key=lambda entry: (-entry[1], entry[0]))


def require_fits(files: Sequence[tuple[Path, int]]) -> int:
    """The bytes of all files; InputError, with the largest entries, if a cluster would refuse."""
    total = sum(size for _, size in files)
    if total > MOST_BYTES:
        largest = ", ".join(f"{path} ({size / 2**20:.1f} MiB)" for path, size in files[:_NAMED])
        raise InputError(
            f"the working directory has {total / 2**20:.0f} MiB to ship, and a cluster takes "
            f"{MOST_BYTES / 2**20:.0f}; move data out of {', '.join(PACKAGES)}. The largest files: "
            f"{largest}"
        )
    return total
