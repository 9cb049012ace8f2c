"""The ways in which networks see pictures: whole, as a sequence of rows, or as patches.

This does not import torch, because planning knows the shapes. The module `shown` makes minibatches.
"""

from pcworker.data.picture_sets import PictureShape
from pcworker.errors import InputError

VIEWS = ("pictures", "rows", "patches")
"""pictures: [channels, height, width]; rows: a time step for every two rows; patches: 16 parts."""
ROWS_OF_A_STEP = 2
"""The number of rows that a time step shows."""
PATCHES = 4
"""The number of patches along each side of a picture."""


def shape_seen(view: str, shape: PictureShape) -> tuple[int, ...]:
    """The shape of a picture in a view. Raises InputError for an unknown view."""
    channels, height, width = shape
    if view == "pictures":
        return shape
    if view == "rows":
        return height // ROWS_OF_A_STEP, ROWS_OF_A_STEP * channels * width
    if view == "patches":
        return PATCHES**2, channels * (height // PATCHES) * (width // PATCHES)
    raise InputError(f"view {view!r} is unknown; allowed: {', '.join(VIEWS)}")
