"""Checks a directory of images before anything starts. It does not import torch.

The expected layout is that of torchvision's `ImageNet` and `ImageFolder`: one folder per class.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from pcworker.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""The file names that torchvision's ImageFolder accepts."""
_LAYOUT = (
    "give a directory with a folder of images for each class, DATA/train/n01440764/*.JPEG or "
    "DATA/n01440764/*.JPEG"
)


@dataclass(frozen=True)
class ImageFolderFacts:
    """Facts about a directory of images, found by `look_over`."""

    root: Path
    """The folder that holds the folders of the classes: the directory itself, or its `train`."""
    classes: int


def look_over(directory: Path, most_classes: int) -> ImageFolderFacts:
    """Finds the folders of the classes in `directory`, and at least one image in each.

    Raises DataError if there is no such folder, if one holds no image, if there are more than
    `most_classes`, or if the directory cannot be read.
    """
    try:
        root = directory / "train" if (directory / "train").is_dir() else directory
        classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"data {directory} cannot be read: {reason}; {_LAYOUT}") from error
    if not classes:
        archives = sorted(path.name for path in root.glob("*.tar"))
        hint = f"it holds {archives[0]}: extract it, one folder per class" if archives else _LAYOUT
        raise DataError(f"data {root} has no folders of classes; {hint}")
    if len(classes) > most_classes:
        raise DataError(
            f"data {root} has {len(classes)} classes, and the network {most_classes} outputs; "
            "give a directory of fewer, or another network"
        )
    for name in classes:
        if not _has_image(root / name):
            raise DataError(
                f"data {root / name} holds no image ({', '.join(SUFFIXES)}); every folder is a "
                f"class and needs one: {_LAYOUT}"
            )
    return ImageFolderFacts(root, len(classes))


def _has_image(folder: Path) -> bool:
    def refuse(error: OSError) -> None:
        raise DataError(f"data {folder} cannot be read: {error.strerror or error}") from error

    walked = os.walk(folder, onerror=refuse, followlinks=True)
    return any(file.lower().endswith(SUFFIXES) for _, _, files in walked for file in files)
