"""A few updates of trials of every rule, shape and type, and one digest of all their weights."""

import hashlib
from itertools import product

import torch

from pcworker.data.batches import Chunk
from pcworker.kernels.fixed.gathered import listed
from pcworker.kernels.fixed.library import HERE, built
from pcworker.kernels.fixed.trial import FixedTrial
from pcworker.trials.configuration import configuration
from pcworker.trials.digests import network_digest
from pcworker.trials.measures import to_numpy
from pcworker.trials.trial import Trial

CELLS = [
    {"rule": "BP", "bias": True},
    {"rule": "Z-IL", "activation": "tanh"},
    {"rule": "Z-IL", "sigma": 0.1, "arithmetic": "textbook"},
    {"rule": "IL", "t": 4, "gamma": 0.5, "bias": True},
    {"rule": "IL", "t": 9, "gamma": 0.2, "activation": "relu", "sigma": 0.1},
    {"rule": "Fa-Z-IL", "horizon": 5},
]


def digest_of_a_small_sweep(
    flags: tuple[str, ...] = HERE, shrink: float = 1.0, flush: bool = False
) -> str:
    """
    flags   those of the build that trains
    shrink  the initial weights of layers above the output are multiplied by it
    flush   whether the thread that trains is set to take subnormal numbers for 0
    """
    digests = []
    for cell, dtype, network in product(CELLS, ("float32", "float64"), ("40-19-17-10", "50-16-3")):
        config = configuration(network=network, dtype=dtype, batch_size=7, alpha=0.05, **cell)
        trial = FixedTrial(Trial(config, 11), made=built(dtype, flags))
        for layer in trial.parameters()[1:]:
            layer[0].mul_(shrink if dtype == "float32" else shrink**8)
        lists = listed(_chunk(config.widths, dtype), trial.build)
        torch.set_flush_denormal(flush)
        trial.train(lists, config.alpha)
        assert (float(torch.tensor(1e-39) * 0.5) == 0.0) == flush, "the setting was not put back"
        torch.set_flush_denormal(False)
        assert trial.finite()
        digests.append(network_digest([[p + 0.0 for p in l] for l in to_numpy(trial.parameters())]))
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _chunk(widths: tuple[int, ...], dtype: str) -> Chunk:
    """Ten updates of made-up sparse pixels."""
    source = torch.Generator().manual_seed(9)
    pixels = torch.randint(-200, 256, (10, 7, widths[-1]), generator=source).clamp(0)
    targets = torch.eye(widths[0])[torch.randint(widths[0], (10, 7), generator=source)]
    noise = [torch.rand(10, 7, n, generator=source) - 0.5 for n in widths[-2:0:-1]]
    as_ours = getattr(torch, dtype)
    return Chunk(pixels.to(as_ours) / 255, targets.to(as_ours), [n.to(as_ours) for n in noise])
