"""Which configurations `fused.c` knows: by what they are, before anything is tried or imported."""

from pcworker.trials.configuration import Configuration

VECTOR = 16
"""Elements that the widest vector unit, AVX-512, takes at once in float32."""
MAX_LAYERS = 64


def fused_knows(config: Configuration) -> bool:
    """Whether `fused.c` has the operations of this configuration, on a CPU."""
    return (
        config.dtype == "float32"
        and config.activation == "sigmoid"
        and not config.bias
        and config.arithmetic != "textbook"
        and 2 <= config.l_max <= MAX_LAYERS
        and all(n % VECTOR == 0 for n in config.widths[1:-1])
    )
