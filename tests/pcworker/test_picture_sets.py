"""Sets of pictures: each file is checked by its md5 before it is read, and views keep every pixel.

No data set but MNIST is here, so the others are made up. torchvision's md5s are then those of the
made-up files.
"""

import gzip
import hashlib
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from image_directory import directory
from torchvision import datasets

from pcworker.data.mnist import Digits
from pcworker.data.picture_sets import Pictures, find_pictures, picture_set
from pcworker.data.shown import PicturesSeen, seen
from pcworker.data.views import VIEWS, shape_seen
from pcworker.errors import DataError, InputError


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Six files of four pictures each, in torchvision's layout."""
    folder = tmp_path / datasets.CIFAR10.base_folder
    folder.mkdir()
    values = np.random.default_rng(1).integers(0, 256, (6, 4, 3072), np.uint8)
    for place, kind in enumerate(("train_list", "test_list")):
        named = getattr(datasets.CIFAR10, kind)
        for n, (name, _) in enumerate(named):
            rows = values[5 * place + n]
            path = folder / name
            path.write_bytes(pickle.dumps({"data": rows, "labels": [n, 1, 2, 3]}))
        listed = [[name, md5(folder / name)] for name, _ in named]
        monkeypatch.setattr(datasets.CIFAR10, kind, listed)
    meta = folder / datasets.CIFAR10.meta["filename"]
    meta.write_bytes(pickle.dumps({datasets.CIFAR10.meta["key"]: ["a"]}))
    monkeypatch.setitem(datasets.CIFAR10.meta, "md5", md5(meta))
    return tmp_path


def test_cifar_is_read_as_channels_rows_and_columns(cifar: Path) -> None:
    found = find_pictures("cifar10", cifar)
    assert isinstance(found, Pictures)
    assert (found.train.shape, found.test.shape) == ((20, 3, 32, 32), (4, 3, 32, 32))
    assert found.train_labels.tolist()[:8] == [0, 1, 2, 3, 1, 1, 2, 3]
    values = np.random.default_rng(1).integers(0, 256, (6, 4, 3072), np.uint8)
    assert np.array_equal(found.test.reshape(4, -1), values[5])


def test_a_truncated_file_is_named_with_both_md5s(cifar: Path) -> None:
    path = cifar / datasets.CIFAR10.base_folder / "data_batch_3"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError) as refused:
        find_pictures("cifar10", cifar)
    said = str(refused.value)
    assert said.startswith(f"{path} is damaged or not of CIFAR10: its md5 is {md5(path)}, expected")
    path.unlink()
    with pytest.raises(DataError, match=r"data_batch_3 is missing; give --data"):
        find_pictures("cifar10", cifar)


def idx(values: np.ndarray) -> bytes:
    header = struct.pack(f">{1 + values.ndim}i", 2048 + values.ndim, *values.shape)
    return gzip.compress(header + values.tobytes())


def test_fashion_mnist_is_read_from_its_packed_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    shapes = [(6, 28, 28), (6,), (3, 28, 28), (3,)]
    values = [np.random.default_rng(n).integers(0, 10, s, np.uint8) for n, s in enumerate(shapes)]
    names = [name for name, _ in datasets.FashionMNIST.resources]
    for name, value in zip(names, values, strict=True):
        (folder / name).write_bytes(idx(value))
    listed = [(name, md5(folder / name)) for name in names]
    monkeypatch.setattr(datasets.FashionMNIST, "resources", listed)
    found = find_pictures("fashion-mnist", tmp_path)
    assert isinstance(found, Pictures)
    assert np.array_equal(found.train[:, 0], values[0])
    assert np.array_equal(found.test_labels, values[3])


@pytest.mark.parametrize("name", ["fashion-mnist", "cifar10", "svhn"])
def test_without_its_files_a_set_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="is missing; give --data"):
        find_pictures(name, tmp_path)
    with pytest.raises(DataError, match="is not a folder"):
        find_pictures(name, tmp_path / "absent")


def test_a_directory_of_images_is_looked_over(tmp_path: Path) -> None:
    there = directory(tmp_path / "data", each=2)
    assert find_pictures("directory", there) == str(there.resolve())
    with pytest.raises(DataError, match="give --data"):
        find_pictures("directory", None)
    with pytest.raises(DataError, match="cannot be read"):
        find_pictures("directory", tmp_path / "absent")


def test_an_unknown_set_or_view_is_refused() -> None:
    with pytest.raises(InputError, match="allowed: mnist, fashion-mnist, cifar10, svhn, directory"):
        picture_set("cifar100")
    with pytest.raises(InputError, match="allowed: pictures, rows, patches"):
        shape_seen("columns", (1, 28, 28))


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)], ids=str)
def test_a_view_keeps_every_pixel(view: str, shape: tuple[int, int, int]) -> None:
    channels, height, width = shape
    x = torch.arange(2 * channels * height * width).reshape(2, *shape)
    found = seen(view, x)
    assert found.shape == (2, *shape_seen(view, shape))
    assert found.is_contiguous()
    assert torch.equal(found[0].flatten().sort().values, x[0].flatten())


def test_a_row_and_a_patch_are_what_they_say() -> None:
    x = torch.arange(3 * 32 * 32).reshape(1, 3, 32, 32)
    rows, patches = seen("rows", x), seen("patches", x)
    assert torch.equal(rows[0, 1], x[0, :, 2:4].transpose(0, 1).flatten())
    assert torch.equal(patches[0, 4 + 2], x[0, :, 8:16, 16:24].flatten())


def test_minibatches_are_those_of_the_seed(cpu: torch.device, digits: Digits) -> None:
    train, test = (each[:50].reshape(-1, 1, 28, 28) for each in digits[::2])
    pictures = Pictures(train, digits.train_labels[:50], test, digits.test_labels[:50])
    shown = PicturesSeen(pictures, picture_set("mnist"), "pictures", torch.float64, cpu)
    batches = [batch for _, batch in zip(range(4), shown.training(3, 20), strict=False)]
    assert all(batch.inputs.shape == (20, 1, 28, 28) for batch in batches)
    again = next(shown.training(3, 20))
    assert torch.equal(again.inputs, batches[0].inputs)
    assert not torch.equal(next(shown.training(4, 20)).inputs, batches[0].inputs)
    first = torch.cat([b.inputs for b in batches[:2]]).flatten(1)
    assert len(torch.unique(first, dim=0)) == 40  # no picture comes twice in an epoch
    tested = list(shown.testing(30, size=20))
    assert [len(batch.inputs) for batch in tested] == [20, 10]
    assert torch.equal(
        torch.cat([b.targets.argmax(1) for b in tested]),
        torch.from_numpy(digits.test_labels[:30].astype(np.int64)),
    )
    with pytest.raises(InputError, match="batch_size 51: the data set has 50 pictures"):
        next(shown.training(3, 51))


def test_a_directory_gives_minibatches_and_no_test(tmp_path: Path, cpu: torch.device) -> None:
    there = directory(tmp_path, each=2)
    shown = PicturesSeen(str(there), picture_set("directory"), "patches", torch.float64, cpu)
    batch = next(shown.training(1, 2))
    assert batch.inputs.shape == (2, 16, 3 * 56 * 56)
    assert (batch.inputs.dtype, batch.targets.dtype) == (torch.float64, torch.float64)
    assert list(shown.testing(10)) == []
