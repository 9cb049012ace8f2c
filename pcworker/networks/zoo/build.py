"""Makes networks that are graphs, by name, with initial weights that depend on the seed alone."""

import importlib
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from pcworker.data.generators import draw_parameters
from pcworker.data.picture_sets import PictureShape
from pcworker.data.views import shape_seen
from pcworker.errors import InputError, in_one_line
from pcworker.networks.zoo.attention import Transformer
from pcworker.networks.zoo.convolutional import SmallCnn, SmallResnet, SmallUnet, resnet_18
from pcworker.networks.zoo.facts import graph_facts
from pcworker.networks.zoo.recurrent import ManyToOneLstm, ManyToOneRnn

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm)


def _of_rows(make: type[nn.Module], shape: PictureShape, classes: int) -> nn.Module:
    return make(*shape_seen("rows", shape), classes)


def _of_patches(shape: PictureShape, classes: int, layers: int) -> nn.Module:
    tokens, features = shape_seen("patches", shape)
    return Transformer(tokens, features, classes, layers)


_DEFINITIONS: dict[str, Callable[[PictureShape, int], nn.Module]] = {
    "cnn": lambda shape, classes: SmallCnn(shape[0], shape[1], classes),
    "resnet-small": lambda shape, classes: SmallResnet(shape[0], shape[1], classes),
    "resnet18": lambda shape, classes: resnet_18(shape[0], classes),
    "unet": lambda shape, classes: SmallUnet(shape[0], shape[1], classes),
    "rnn": partial(_of_rows, ManyToOneRnn),
    "lstm": partial(_of_rows, ManyToOneLstm),
    "transformer": partial(_of_patches, layers=1),
    "transformer-3": partial(_of_patches, layers=3),
}


def own_network(name: str) -> nn.Module:
    """What a user's own function returns, which is written `module:function`.

    Raises InputError if it cannot be imported or called, or returns anything but a module.
    """
    module, _, function = name.partition(":")
    try:
        made = getattr(importlib.import_module(module), function)()
    except Exception as error:  # it is the user's code, and may raise anything
        raise InputError(
            f"network {name!r} cannot be made ({in_one_line(error)}); it must be a function "
            "without arguments, in a module that Python finds on every node, such as by PYTHONPATH"
        ) from error
    if not isinstance(made, nn.Module):
        raise InputError(
            f"network {name!r} returns a {type(made).__name__}; it must return a torch.nn.Module"
        )
    return made


@torch.no_grad()
def build_graph(
    name: str, seed: int, shape: PictureShape, classes: int, dtype: torch.dtype = torch.float32
) -> nn.Module:
    """The named network on the CPU, with the initial weights of `seed`.

    shape  the channels, height and width of the pictures; a user's own network knows it itself

    Weights and biases are drawn as torch.nn.Linear draws them, by `draw_parameters`. Normalisation
    begins with the weight 1 and the bias 0. Raises InputError for an unknown name.
    """
    known = graph_facts(name) is not None
    with torch.random.fork_rng(devices=[]):  # what torch draws itself is replaced
        network = _DEFINITIONS[name](shape, classes) if known else own_network(name)
    network = network.to(dtype)
    draw_parameters(network, seed)
    for module in network.modules():
        if isinstance(module, _NORMS) and module.weight is not None:
            module.weight.fill_(1)
            module.bias.fill_(0)
    return network


@torch.no_grad()
def freeze_statistics(network: nn.Module, inputs: torch.Tensor) -> None:
    """Ends the training mode. Batch normalisation keeps the statistics of these inputs.

    In training mode the prediction for a sample would depend on the others of its minibatch.
    """
    network.eval()
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the statistics of all inputs, which are a single minibatch
        norm.train()
    if norms:
        network(inputs)
        network.eval()
