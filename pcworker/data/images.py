"""Images in a seed's order, by torch's DataLoader: of an ImageNet directory, or made up."""

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

from pcworker.data.image_folder import look_over
from pcworker.data.randomness import batch_order, generator
from pcworker.errors import DataError

SYNTHETIC_SAMPLES = 50_000
MEAN, SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's pixels in [0, 1], by channel, as everybody normalises them."""

Sample = tuple[Tensor, int]


class Seen(Protocol):
    """What a network sees: `pcworker.networks.catalogue.Facts` is one."""

    @property
    def classes(self) -> int:
        """The number of its outputs."""

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The channels, height and width of an image."""


class Minibatch(NamedTuple):
    """On the device that learns."""

    inputs: Tensor
    """[B, channels, height, width]"""
    targets: Tensor
    """[B, classes], one-hot"""


class SyntheticImages(Dataset[Sample]):
    """Standard normals, as normalised pixels are on average, and labels; from a seed alone."""

    def __init__(self, network: Seen, seed: int) -> None:
        self._network, self._seed = network, seed

    def __len__(self) -> int:
        return SYNTHETIC_SAMPLES

    def __getitem__(self, index: int) -> Sample:
        source = generator(self._seed, "image", index)
        label = int(torch.randint(self._network.classes, (), generator=source))
        return torch.randn(self._network.input_shape, generator=source), label


class DirectoryImages(Dataset[Sample]):
    """Of an ImageNet directory: the shorter side scaled to 8/7 of the network's input (256 of 224),
    the centre cut out, normalised."""

    def __init__(self, directory: Path, network: Seen) -> None:
        """DataError where the directory has not the layout, or a class too many."""
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
    """Those of a directory, or synthetic ones (None), of the shape that a network sees."""
    return (
        DirectoryImages(Path(directory), network) if directory else SyntheticImages(network, seed)
    )


def minibatches(
    samples: Any, seed: int, batch_size: int, classes: int, device: torch.device, loaders: int = 0
) -> Iterator[Minibatch]:
    """Minibatches without end, in the seed's order of every epoch, on the device.

    samples  a data set of `images`
    loaders  processes that load ahead; 0: each is loaded when it is asked for
    """
    order = (index for epoch in count(1) for index in batch_order(seed, epoch, len(samples)))
    chosen = iter(lambda: list(map(int, islice(order, batch_size))), [])
    how: dict[str, Any] = {"num_workers": loaders, "pin_memory": device.type == "cuda"}
    if loaders:
        how["multiprocessing_context"] = "spawn"  # a Ray worker has threads: it must not fork
    loader = DataLoader(samples, batch_sampler=chosen, **how)
    try:
        for inputs, labels in loader:
            targets = nn.functional.one_hot(labels, classes).to(inputs.dtype)
            yield Minibatch(
                inputs.to(device, non_blocking=True), targets.to(device, non_blocking=True)
            )
    except DataError as error:
        # out of a loader's process it comes with a traceback; the last line is what it says
        raise DataError(str(error).strip().splitlines()[-1].split("DataError: ")[-1]) from error


def _read(path: str) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read as an image ({error}); fetch it anew, or delete it"
        ) from error
