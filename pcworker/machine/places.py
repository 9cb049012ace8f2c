"""Says how many shards a worker on a GPU trains at the same time. This does not import torch."""

from math import floor

PLACE_BYTES = 2**30
"""The free memory of a GPU that a shard is given. It is more than a shard of the paper takes."""
BLOCKS_PER_MULTIPROCESSOR = 4
"""The trials that are to be at work on each multiprocessor of a GPU, one in a block of threads."""
SHARD_TRIALS = 10
"""The number of trials in a shard of the paper's sweep, on average."""
MOST_PLACES = 64
"""The largest number of shards that a worker trains at the same time."""


def places_on_gpu(multiprocessors: int, free_bytes: int, share: float) -> int:
    """Returns how many shards fill the given share of a GPU. No GPU was measured for it."""
    by_blocks = floor(multiprocessors * share * BLOCKS_PER_MULTIPROCESSOR / SHARD_TRIALS)
    by_memory = floor(free_bytes * share / PLACE_BYTES)
    return max(1, min(by_blocks, by_memory, MOST_PLACES))
