"""Images for the timing runs come from an ImageNet directory, or are synthetic.

The oracles are images of one colour, whose normalised values have a closed form, and a seed's
order.
"""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from image_directory import COLOURS, directory
from PIL import Image

from pcworker.data.generators import image_order
from pcworker.data.image_folder import look_over
from pcworker.data.images import MEAN, SD, DirectoryImages, images, minibatches
from pcworker.errors import DataError
from pcworker.networks.catalogue import NETWORKS, facts

SMALL = facts("small-conv")


def test_a_directory_gives_normalised_images_of_the_networks_size(tmp_path: Path) -> None:
    found = DirectoryImages(directory(tmp_path), SMALL)
    assert len(found) == 6
    for index in range(6):
        image, label = found[index]
        assert label == index // 2
        colour = np.array(list(COLOURS.values())[label]) / 255
        expected = torch.from_numpy((colour - MEAN) / SD).float().view(3, 1, 1)
        assert image.shape == SMALL.input_shape
        torch.testing.assert_close(image, expected.expand(3, 16, 16), rtol=0, atol=1e-6)


def test_the_centre_is_cut_out(tmp_path: Path) -> None:
    """The image is red with a wide blue frame left and right, so its centre is red all over."""
    (tmp_path / "n01").mkdir()
    picture = Image.new("RGB", (90, 30), (0, 0, 255))
    picture.paste(Image.new("RGB", (40, 30), (255, 0, 0)), (25, 0))
    picture.save(tmp_path / "n01" / "a.jpg", quality=100, subsampling=0)
    image, _ = DirectoryImages(tmp_path, SMALL)[0]
    red = torch.tensor([(1 - MEAN[0]) / SD[0], -MEAN[1] / SD[1], -MEAN[2] / SD[2]])
    assert (image - red.view(3, 1, 1)).abs().max() < 0.05


@pytest.mark.parametrize(("real", "loaders"), [(True, 2), (False, 0)])
def test_minibatches_are_in_the_seeds_order_whoever_loads_them(
    tmp_path: Path, real: bool, loaders: int
) -> None:
    cpu = torch.device("cpu")
    found = images(str(directory(tmp_path)) if real else None, SMALL, seed=5)
    order = [int(i) for epoch in (1, 2, 3) for i in image_order(5, epoch, len(found))]
    batches = list(islice(minibatches(found, 5, 4, 10, cpu), 3))
    loaded = list(islice(minibatches(found, 5, 4, 10, cpu, loaders), 3))
    for place, (batch, other) in enumerate(zip(batches, loaded, strict=True)):
        assert torch.equal(batch.inputs, other.inputs)
        assert torch.equal(batch.targets, other.targets)
        for k, index in enumerate(order[4 * place : 4 * place + 4]):
            image, label = found[index]
            assert torch.equal(batch.inputs[k], image)
            assert batch.targets[k].argmax() == label
            assert (batch.targets[k].sum(), batch.targets.dtype) == (1.0, torch.float32)


def test_synthetic_images_come_from_the_seed_alone() -> None:
    one, again, other = (images(None, SMALL, seed) for seed in (1, 1, 2))
    assert torch.equal(one[7][0], again[7][0])
    assert one[7][1] == again[7][1]
    assert not torch.equal(one[7][0], other[7][0])
    assert not torch.equal(one[7][0], one[8][0])
    values = torch.stack([one[i][0] for i in range(50)])
    labels = {one[i][1] for i in range(200)}
    assert values.shape == (50, 3, 16, 16)
    assert abs(float(values.mean())) < 0.02
    assert abs(float(values.std()) - 1) < 0.02
    assert labels == set(range(10))


@pytest.mark.parametrize("loaders", [0, 1])
def test_a_broken_image_is_named_in_one_line(tmp_path: Path, loaders: int) -> None:
    folder = directory(tmp_path)
    broken = folder / "train" / "n02" / "n02_0.PNG"
    broken.write_bytes(broken.read_bytes()[:60])
    found = images(str(folder), SMALL, seed=5)
    with pytest.raises(DataError) as raised:
        list(islice(minibatches(found, 5, 6, 10, torch.device("cpu"), loaders), 1))
    message = str(raised.value)
    assert message.startswith(f"{broken} cannot be read as an image")
    assert message.endswith("fetch it anew, or delete it")
    assert "\n" not in message


def test_a_directory_is_looked_over(tmp_path: Path) -> None:
    train = directory(tmp_path / "a")
    assert look_over(train, 1000).root == train / "train"
    assert look_over(train / "train", 1000).root == train / "train"
    assert look_over(train, 3).classes == 3


def test_what_is_wrong_with_a_directory_is_said(tmp_path: Path) -> None:
    def refused(path: Path, most: int = 1000) -> str:
        with pytest.raises(DataError) as raised:
            look_over(path, most)
        return str(raised.value)

    assert "No such file or directory; give a directory with" in refused(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    assert "Not a directory" in refused(tmp_path / "file")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert f"{empty} has no folders of classes; give a directory with" in refused(empty)
    (empty / "ILSVRC2012_img_train.tar").write_bytes(b"")
    assert "holds ILSVRC2012_img_train.tar: extract it" in refused(empty)
    full = directory(tmp_path / "full")
    assert "has 3 classes, and the network 2 outputs" in refused(full, most=2)
    (full / "train" / "n04").mkdir()
    (full / "train" / "n04" / "notes.txt").write_text("")
    message = refused(full)
    assert str(full / "train" / "n04") in message
    assert "holds no image (.jpg, .jpeg, .png" in message


def test_every_network_sees_square_images() -> None:
    """`DirectoryImages` cuts out squares."""
    for network in NETWORKS.values():
        assert network.input_shape[1] == network.input_shape[2]
