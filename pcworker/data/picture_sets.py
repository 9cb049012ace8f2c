"""Finds named sets of small pictures, and checks every file before anything starts.

MNIST is found as `mnist` finds it. The others are read by torchvision's classes from the folder
that the user names, or else from the cache, into which torchvision downloads what is missing. Each
file must have the md5 that torchvision knows. Nothing here imports torch, but for these others.
"""

import contextlib
import gzip
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pcworker.data.image_folder import look_over
from pcworker.data.mnist import load_digits
from pcworker.errors import DataError, InputError, first_line
from pcworker.machine.cache import cache_folder

PictureShape = tuple[int, int, int]
"""The channels, height and width of a picture."""


@dataclass(frozen=True)
class PictureSet:
    """What planning knows of a set of pictures."""

    input_shape: PictureShape
    classes: int
    title: str


DIRECTORY = "directory"
"""The name that stands for a directory of images, with a folder for each class."""
PICTURE_SETS = {
    "mnist": PictureSet((1, 28, 28), 10, "MNIST"),
    "fashion-mnist": PictureSet((1, 28, 28), 10, "FashionMNIST"),
    "cifar10": PictureSet((3, 32, 32), 10, "CIFAR10"),
    "svhn": PictureSet((3, 32, 32), 10, "SVHN"),
    DIRECTORY: PictureSet((3, 224, 224), 1000, "a directory of images"),
}
"""The known sets, by the name that users write. `title` is the name of torchvision's class."""


class Pictures(NamedTuple):
    """Pictures and labels, all uint8: pictures [samples, channels, height, width]."""

    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray


def picture_set(name: str) -> PictureSet:
    """The facts of a set. Raises InputError for an unknown name."""
    if name not in PICTURE_SETS:
        raise InputError(f"data set {name!r} is unknown; allowed: {', '.join(PICTURE_SETS)}")
    return PICTURE_SETS[name]


def find_pictures(name: str, folder: Path | None, most_classes: int = 1000) -> Pictures | str:
    """The pictures of a set, checked; for a directory of images, which is too large, its path.

    folder        where the files are, in torchvision's layout; None: the cache, or a download
    most_classes  the most classes that a directory of images may have

    Raises DataError, which names the file, if one is missing, damaged or cannot be fetched.
    """
    if name == DIRECTORY:
        if folder is None:
            raise DataError("data set directory: give --data, a directory of images")
        look_over(folder, most_classes)
        return str(folder.resolve())
    if name == "mnist":
        digits = load_digits(folder)
        shaped = (each.reshape(-1, *picture_set(name).input_shape) for each in digits[::2])
        train, test = shaped
        return Pictures(train, digits.train_labels, test, digits.test_labels)
    title = picture_set(name).title
    if folder is not None and not folder.is_dir():
        raise DataError(f"data {folder} is not a folder; give --data a folder with {title}'s files")
    there = folder or cache_folder() / "torchvision"
    if folder is None and not all(path.exists() for path, _ in _files(title, there)):
        _download(title, there)
    for path, md5 in _files(title, there):
        _require(path, md5, title)
    return _read(title, there)


def _files(title: str, folder: Path) -> Iterator[tuple[Path, str]]:
    """The files that are read, with torchvision's md5s."""
    from torchvision import datasets  # it imports torch, which MNIST does without

    known: Any = getattr(datasets, title)
    if title == "SVHN":
        for split in ("train", "test"):
            _, name, md5 = known.split_list[split]
            yield folder / name, md5
    elif title == "CIFAR10":
        for name, md5 in (*known.train_list, *known.test_list):
            yield folder / known.base_folder / name, md5
    else:
        for name, md5 in known.resources:
            yield folder / title / "raw" / name, md5


def _require(path: Path, md5: str, title: str) -> None:
    from torchvision.datasets.utils import calculate_md5

    if not path.is_file():
        raise DataError(
            f"{path} is missing; give --data a folder in which torchvision has put {title}"
        )
    if (found := calculate_md5(str(path))) != md5:
        raise DataError(
            f"{path} is damaged or not of {title}: its md5 is {found}, expected {md5}; "
            "fetch it anew"
        )


def _download(title: str, folder: Path) -> None:
    from torchvision import datasets

    known: Any = getattr(datasets, title)
    splits = [{"split": s} if title == "SVHN" else {"train": s == "train"} for s in _SPLITS]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.redirect_stdout(sys.stderr):  # a job's stdout is for its results
            for split in splits:
                known(root=folder, download=True, **split)
    except ModuleNotFoundError as error:
        raise _lacking(title, error) from error
    except (RuntimeError, OSError, HTTPException) as error:
        raise DataError(
            f"{title} is not in {folder}, and torchvision's download failed "
            f"({first_line(error)}); fetch it elsewhere, and give its folder to --data"
        ) from error


_SPLITS = ("train", "test")


def _read(title: str, folder: Path) -> Pictures:
    from torchvision import datasets

    if title == "FashionMNIST":
        paths = [path for path, _ in _files(title, folder)]
        images = [_idx(path, 16, (-1, 1, 28, 28)) for path in paths[::2]]
        labels = [_idx(path, 8, (-1,)) for path in paths[1::2]]
        return Pictures(images[0], labels[0], images[1], labels[1])
    if title == "CIFAR10":
        found = [datasets.CIFAR10(folder, train=split == "train") for split in _SPLITS]
        shown = [np.ascontiguousarray(each.data.transpose(0, 3, 1, 2)) for each in found]
        named = [np.asarray(each.targets, np.uint8) for each in found]
        return Pictures(shown[0], named[0], shown[1], named[1])
    try:
        both = [datasets.SVHN(folder, split=split) for split in _SPLITS]
    except ModuleNotFoundError as error:
        raise _lacking(title, error) from error
    named = [each.labels.astype(np.uint8) for each in both]
    return Pictures(both[0].data, named[0], both[1].data, named[1])


def _idx(path: Path, start: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=start).reshape(shape)


def _lacking(title: str, error: ModuleNotFoundError) -> DataError:
    return DataError(
        f"torchvision reads {title} with {error.name}, which is not installed: install {error.name}"
    )
