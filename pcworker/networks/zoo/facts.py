"""Lists the named networks that are graphs with the facts that planning needs, without torch.

The module `build` makes the networks, and a test compares these facts with what it makes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pcworker.data.picture_sets import PictureShape
from pcworker.errors import InputError

SMALL, COLOURED, LARGE = (1, 28, 28), (3, 32, 32), (3, 224, 224)
"""The shapes of pictures that are known: those of MNIST, of CIFAR-10 and of ImageNet."""


@dataclass(frozen=True)
class Sizes:
    """The sizes of a network for pictures of one shape."""

    parameters: int
    levels: int
    """The number of levels of the levelled graph: the inference steps of an update of Z-IL."""
    operations: int
    """The number of operations that torch.fx finds."""


@dataclass(frozen=True)
class GraphFacts:
    """What is known of a named network."""

    family: str
    """"chain", "residual", "recurrent" or "attention"."""
    view: str
    """How it sees a picture: a name of `pcworker.data.views.VIEWS`."""
    cuts: tuple[str, ...] | None
    """The operations after which a vertex ends, as `predictive_graph` takes them. None: every one
    that has parameters."""
    sizes: Mapping[PictureShape, Sizes]
    """The sizes by the shape of the pictures, for 10 classes, or 1,000 where they are large. It
    takes no other pictures."""


_RELUS = ("relu", *(f"relu_{place}" for place in range(1, 7)))
_RELUS_OF_18 = (
    "relu",
    *(
        f"layer{layer}_{block}_relu{n}"
        for layer in range(1, 5)
        for block in (0, 1)
        for n in ("", "_1")
    ),
)
"""The ReLUs, so that a residual block is two vertices, as in the literature."""

GRAPHS = {
    "cnn": GraphFacts(
        "chain",
        "pictures",
        None,
        {SMALL: Sizes(54_314, 4, 8), COLOURED: Sizes(70_074, 4, 8), LARGE: Sizes(3_280_152, 4, 8)},
    ),
    "resnet-small": GraphFacts(
        "residual",
        "pictures",
        _RELUS,
        {
            SMALL: Sizes(24_442, 8, 22),
            COLOURED: Sizes(24_586, 8, 22),
            LARGE: Sizes(25_108_456, 8, 22),
        },
    ),
    "resnet18": GraphFacts(
        "residual",
        "pictures",
        _RELUS_OF_18,
        {
            SMALL: Sizes(11_175_370, 19, 69),
            COLOURED: Sizes(11_181_642, 19, 69),
            LARGE: Sizes(11_689_512, 19, 69),
        },
    ),
    "unet": GraphFacts(
        "residual", "pictures", None, {SMALL: Sizes(37_830, 8, 18), COLOURED: Sizes(47_574, 8, 18)}
    ),
    "rnn": GraphFacts(
        "recurrent", "rows", None, {SMALL: Sizes(8_458, 15, 69), COLOURED: Sizes(17_162, 17, 79)}
    ),
    "lstm": GraphFacts(
        "recurrent", "rows", None, {SMALL: Sizes(20_842, 40, 233), COLOURED: Sizes(46_954, 46, 267)}
    ),
    "transformer": GraphFacts(
        "attention",
        "patches",
        None,
        {
            SMALL: Sizes(142_218, 10, 29),
            COLOURED: Sizes(160_522, 10, 29),
            LARGE: Sizes(1_467_880, 10, 29),
        },
    ),
    "transformer-3": GraphFacts(
        "attention",
        "patches",
        None,
        {
            SMALL: Sizes(407_178, 26, 77),
            COLOURED: Sizes(425_482, 26, 77),
            LARGE: Sizes(1_732_840, 26, 77),
        },
    ),
}


def graph_facts(network: str) -> GraphFacts | None:
    """The facts of a named network, or None for a user's own, which is written `module:function`.

    Raises InputError for another name.
    """
    if network in GRAPHS:
        return GRAPHS[network]
    if re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", network):
        return None
    raise InputError(
        f"network {network!r} is unknown; allowed: {', '.join(GRAPHS)}, or a function of your own "
        "that returns a torch.nn.Module, as module:function"
    )
