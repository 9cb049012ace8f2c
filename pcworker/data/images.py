"""Loads minibatches of images, real or synthetic, in the order of a seed (torch's DataLoader)."""

from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from pcworker.data.generators import generator, image_order
from pcworker.data.image_folder import look_over
from pcworker.errors import DataError

SYNTHETIC_SAMPLES = 50_000
MEAN, SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's pixels in [0, 1], by channel: torchvision's values."""

Sample = tuple[Tensor, int]


class Seen(Protocol):
    """The shapes of a network's input and output, as in `pcworker.networks.catalogue.Facts`."""

    @property
    def classes(self) -> int:
        """The number of the network's outputs."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The channels, height and width of an image."""


class Minibatch(NamedTuple):
    """One minibatch of images, on the device that trains."""

    inputs: Tensor
    """[B, channels, height, width]"""
    targets: Tensor
    """[B, classes], one-hot"""


class SyntheticImages(Dataset[Sample]):
    """Synthetic images and labels that depend on a seed alone.

    The pixels are standard normals, because normalised pixels have mean 0 and variance 1.
    """

    def __init__(self, network: Seen, seed: int) -> None:
        self._network, self._seed = network, seed

    def __len__(self) -> int:
        return SYNTHETIC_SAMPLES

    def __getitem__(self, index: int) -> Sample:
        source = generator(self._seed, "image", index)
        label = int(torch.randint(self._network.classes, (), generator=source))
        return torch.randn(self._network.input_shape, generator=source), label


class DirectoryImages(Dataset[Sample]):
    """The images of a directory, cropped to the input of a network and normalised.

    The shorter side is scaled to 8/7 of the network's input (256 for 224), and the centre is cut
    out.
    """

    def __init__(self, directory: Path, network: Seen) -> None:
        """Raises DataError if the directory has another layout, or more classes than outputs."""
        root = look_over(directory, network.classes).root
        size = network.input_shape[1]
        transform = v2.Compose(
            [
                v2.Resize(size * 8 // 7),
                v2.CenterCrop(size),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(MEAN, SD),
            ]
        )
        self._images = ImageFolder(str(root), transform=transform, loader=_read)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Sample:
        image, label = self._images[index]
        return image, label


def images(directory: str | None, network: Seen, seed: int) -> Dataset[Sample]:
    """The images of a directory, or synthetic ones (None), in the shape that `network` takes."""
    return (
        DirectoryImages(Path(directory), network) if directory else SyntheticImages(network, seed)
    )


def minibatches(
    samples: Any, seed: int, batch_size: int, classes: int, device: torch.device, loaders: int = 0
) -> Iterator[Minibatch]:
    """Yields minibatches without end, on the device, each epoch in its own order of the seed.

    On a GPU they come from pinned memory, and the copies do not wait for each other.

    samples  a data set that `images` returned
    loaders  the number of processes that load in advance; 0: each minibatch is loaded when it is
             asked for

    Raises DataError if an image cannot be read.
    """
    order = (index for epoch in count(1) for index in image_order(seed, epoch, len(samples)))
    chosen = iter(lambda: list(map(int, islice(order, batch_size))), [])
    how: dict[str, Any] = {"num_workers": loaders, "pin_memory": device.type == "cuda"}
    if loaders:
        how["multiprocessing_context"] = "spawn"  # a Ray worker has threads, so it must not fork
    loader = DataLoader(samples, batch_sampler=chosen, **how)
    try:
        for inputs, labels in loader:
            targets = nn.functional.one_hot(labels, classes).to(inputs.dtype)
            targets = targets.pin_memory() if how["pin_memory"] else targets
            yield Minibatch(
                inputs.to(device, non_blocking=True), targets.to(device, non_blocking=True)
            )
    except DataError as error:
        # an error from a loader's process arrives with a traceback; its last line is the message
        raise DataError(str(error).strip().splitlines()[-1].split("DataError: ")[-1]) from error


def _read(path: str) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read as an image ({error}); fetch it anew, or delete it"
        ) from error
