"""The named networks by what planning must know of them, apart from torch: `named`
makes them, and a test compares the two."""

from dataclasses import dataclass

from pcworker.errors import InputError

IMAGENET = (3, 224, 224)


@dataclass(frozen=True)
class Facts:
    """What a named network is."""

    input_shape: tuple[int, int, int]
    """Channels, height and width of one sample."""
    classes: int
    """The number of outputs."""
    layers: int
    """l_max: layers of weights, into which it is cut."""
    parameters: int
    multiplications: int
    """Of a prediction of one sample, in its convolutions and linear layers."""


NETWORKS = {
    "mlp": Facts(IMAGENET, 1000, 4, 78_109_160, 78_106_624),
    "alexnet": Facts(IMAGENET, 1000, 8, 61_100_840, 714_188_480),
    "vgg11": Facts(IMAGENET, 1000, 11, 132_863_336, 7_609_090_048),
    "vgg13": Facts(IMAGENET, 1000, 13, 133_047_848, 11_308_466_176),
    "vgg16": Facts(IMAGENET, 1000, 16, 138_357_544, 15_470_264_320),
    "vgg19": Facts(IMAGENET, 1000, 19, 143_667_240, 19_632_062_464),
    "small-conv": Facts((3, 16, 16), 10, 4, 9_946, 82_240),
}


def facts(network: str) -> Facts:
    """Of a named network; InputError for an unknown name."""
    if network not in NETWORKS:
        raise InputError(f"network {network!r} is unknown; allowed: {', '.join(NETWORKS)}")
    return NETWORKS[network]
