"""Lists the named networks with the facts that planning needs, without torch.

The module `named` builds the networks, and a test compares these facts with what it builds.
"""

from dataclasses import dataclass

from pcworker.errors import InputError

IMAGENET = (3, 224, 224)


@dataclass(frozen=True)
class Facts:
    """The sizes of a named network."""

    input_shape: tuple[int, int, int]
    """The channels, height and width of one sample."""
    classes: int
    """The number of outputs."""
    layers: int
    """l_max, the number of layers of weights into which the network is cut."""
    parameters: int
    """The number of its parameters."""
    multiplications: int
    """The number of multiplications that its convolutions and linear layers make to predict one
    sample."""


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
    """The facts of a named network. Raises InputError for an unknown name."""
    if network not in NETWORKS:
        raise InputError(f"network {network!r} is unknown; allowed: {', '.join(NETWORKS)}")
    return NETWORKS[network]
