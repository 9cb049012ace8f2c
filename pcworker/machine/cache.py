"""Where things are kept that can be had again: the data set, what was compiled for this machine."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """ZILSWEEP_CACHE, or zilsweep in the user's cache."""
    if named := os.environ.get("ZILSWEEP_CACHE"):
        return Path(named)
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification has a relative path ignored, as if it were not set.
    return (base if base.is_absolute() else Path.home() / ".cache") / "zilsweep"
