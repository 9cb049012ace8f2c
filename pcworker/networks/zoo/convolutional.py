"""Networks of convolutions: a chain, a residual network, one like a U-Net, and ResNet-18."""

import torch
import torchvision
from torch import Tensor, nn


class SmallCnn(nn.Module):
    """Two convolutions and two linear layers: a chain."""

    def __init__(self, channels: int, size: int, classes: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 8, 5, stride=2, padding=2)
        self.second = nn.Conv2d(8, 16, 5, stride=2, padding=2)
        self.third = nn.Linear(16 * (size // 4) ** 2, 64)
        self.last = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, channels, size, size] to [B, classes]."""
        x = torch.relu(self.second(torch.relu(self.first(x))))
        output: Tensor = self.last(torch.relu(self.third(x.flatten(1))))
        return output


class ResidualBlock(nn.Module):
    """Two convolutions, with a skip over them. Where the size changes, the skip is a convolution
    too, as in ResNet-18."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, out, 3, stride=stride, padding=1)
        self.second = nn.Conv2d(out, out, 3, padding=1)
        changes = stride != 1 or channels != out
        self.skip = nn.Conv2d(channels, out, 1, stride=stride) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, channels, n, n] to [B, out, n / stride, n / stride]."""
        return torch.relu(self.skip(x) + self.second(torch.relu(self.first(x))))


class SmallResnet(nn.Module):
    """A residual network of three blocks, without normalisation."""

    def __init__(self, channels: int, size: int, classes: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 8, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(
            ResidualBlock(8, 8), ResidualBlock(8, 16, stride=2), ResidualBlock(16, 32, stride=2)
        )
        self.last = nn.Linear(32 * ((size // 2 + 3) // 4) ** 2, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, channels, size, size] to [B, classes]."""
        x = self.blocks(torch.relu(self.first(x)))
        output: Tensor = self.last(x.flatten(1))
        return output


class SmallUnet(nn.Module):
    """Down twice and up twice, with a bridge on each height, as in a U-Net. It ends in classes."""

    def __init__(self, channels: int, size: int, classes: int) -> None:
        super().__init__()
        self.top, self.middle = nn.Conv2d(channels, 8, 3, padding=1), nn.Conv2d(8, 12, 3, padding=1)
        self.bottom = nn.Conv2d(12, 16, 3, padding=1)
        self.rise, self.arrive = nn.Conv2d(28, 12, 3, padding=1), nn.Conv2d(20, 4, 3, padding=1)
        self.last = nn.Linear(4 * size * size, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [B, channels, size, size] to [B, classes]."""
        top = torch.relu(self.top(x))
        middle = torch.relu(self.middle(nn.functional.max_pool2d(top, 2)))
        bottom = torch.relu(self.bottom(nn.functional.max_pool2d(middle, 2)))
        up = nn.functional.interpolate(bottom, scale_factor=2.0)
        x = torch.relu(self.rise(torch.cat([middle, up], 1)))
        up = nn.functional.interpolate(x, scale_factor=2.0)
        x = torch.relu(self.arrive(torch.cat([top, up], 1)))
        output: Tensor = self.last(x.flatten(1))
        return output


def resnet_18(channels: int, classes: int) -> nn.Module:
    """torchvision's ResNet-18 for pictures of this many channels."""
    network: nn.Module = torchvision.models.resnet18(weights=None, num_classes=classes)
    if channels != 3:
        network.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    return network
