"""Says which configurations `fused.c` knows. Planning asks it, so it does not import torch."""

from pcworker.machine.processor import VECTOR
from pcworker.trials.configuration import Configuration

MAX_LAYERS = 64
"""The limit of `fused.c` on l_max."""


def fused_knows(config: Configuration) -> bool:
    """True if `fused.c` has the operations of this configuration, on a CPU."""
    return (
        config.dtype == "float32"
        and config.activation == "sigmoid"
        and not config.bias
        and config.arithmetic != "textbook"
        and 2 <= config.l_max <= MAX_LAYERS
        and all(n % VECTOR == 0 for n in config.widths[1:-1])
    )
