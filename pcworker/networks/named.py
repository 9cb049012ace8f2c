"""Builds well-known networks by name, with initial weights that depend on a seed alone.

Each is a torch.nn.Sequential with linear outputs, which `sequential.predictive` cuts after every
module that has parameters. AlexNet and the VGGs are torchvision's definitions without dropout, and
their parameters have torchvision's names.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import torch
import torchvision
from torch import nn

from pcworker.data.generators import draw_parameters
from pcworker.networks.catalogue import IMAGENET, facts


def _torchvision(model: nn.Module) -> nn.Sequential:
    """A Sequential that does what `forward` of AlexNet or a VGG does, without dropout."""
    parts = dict(model.named_children())
    classifier = OrderedDict(
        (name, module)
        for name, module in parts["classifier"].named_children()
        if not isinstance(module, nn.Dropout)
    )
    return nn.Sequential(
        OrderedDict(
            features=parts["features"],
            avgpool=parts["avgpool"],
            flatten=nn.Flatten(),
            classifier=nn.Sequential(classifier),
        )
    )


def _alexnet() -> nn.Sequential:
    return _torchvision(torchvision.models.alexnet(weights=None))


def _vgg(layers: int) -> nn.Sequential:
    define = getattr(torchvision.models, f"vgg{layers}")
    return _torchvision(define(weights=None, init_weights=False))


def _mlp() -> nn.Sequential:
    """Three hidden layers of 512. The first layer has 77 million of the 78 million weights."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(math.prod(IMAGENET), 512),
        nn.Sigmoid(),
        nn.Linear(512, 512),
        nn.Sigmoid(),
        nn.Linear(512, 512),
        nn.Sigmoid(),
        nn.Linear(512, 1000),
    )


def _small_conv() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1, stride=2),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(256, 32),
        nn.Tanh(),
        nn.Linear(32, 10),
    )


DEFINITIONS: dict[str, Callable[[], nn.Sequential]] = {
    "mlp": _mlp,
    "alexnet": _alexnet,
    **{f"vgg{layers}": partial(_vgg, layers) for layers in (11, 13, 16, 19)},
    "small-conv": _small_conv,
}


def define(name: str) -> nn.Sequential:
    """The named network without values: its parameters are on torch's meta device.

    Raises InputError for an unknown name.
    """
    facts(name)
    with torch.device("meta"):  # takes no memory, and draws nothing from torch's global generator
        return DEFINITIONS[name]()


def build(name: str, seed: int, dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """The named network on the CPU, with the initial weights of `seed`.

    Raises InputError for an unknown name.
    """
    network = define(name).to(dtype).to_empty(device="cpu")
    draw_parameters(network, seed)
    return network
