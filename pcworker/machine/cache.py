"""Finds the folder for files that can be made again, such as MNIST and compiled kernels."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """The folder that ZILSWEEP_CACHE names, or else `zilsweep` in the user's cache folder."""
    if named := os.environ.get("ZILSWEEP_CACHE"):
        return Path(named)
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # the XDG specification asks that a relative path be ignored
    return (base if base.is_absolute() else Path.home() / ".cache") / "zilsweep"
