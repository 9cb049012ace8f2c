"""Which configurations `fused.c` knows, from their fields alone: planning asks it without torch."""

from pcworker.trials.configuration import Configuration

VECTOR = 16
"""The number of float32 values that the widest vector unit, AVX-512, takes at once."""
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
