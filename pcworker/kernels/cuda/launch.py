"""Launches of `samples.cu`: many trials at once, over the minibatches of their seeds."""

from collections.abc import Mapping
from ctypes import Structure, c_int32, c_uint64
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from pcworker.data.batches import CHUNK
from pcworker.kernels.cuda.gpu import Gpu
from pcworker.kernels.cuda.memory import Structs, as_tensor
from pcworker.kernels.cuda.minibatches import Minibatches
from pcworker.kernels.fixed.library import F_CODES
from pcworker.trials.configuration import Configuration

SAMPLES_CU = Path(__file__).with_name("samples.cu")
UNITS = 32
"""The lanes of a warp, and the most units that a layer of `train_samples` may have."""
SAMPLES = 4
"""The samples that a warp has. Its four sums hide how long one addition takes."""
_MOST_LAYERS, _MOST_THREADS, _PHASE_THREADS = 5, 1024, 256


def fits(config: Configuration, shared_bytes: int, samples: int = SAMPLES) -> bool:
    """True if `train_samples` can train this network on a GPU with so much shared memory a block.
    Otherwise `train_phases` does, with the same bits."""
    return (
        max(config.widths[:-1]) <= UNITS
        and config.l_max <= _MOST_LAYERS
        and threads_of(config, samples) <= _MOST_THREADS
        and bytes_needed(config, samples) <= shared_bytes
    )


def threads_of(config: Configuration, samples: int = SAMPLES) -> int:
    """The threads of a block of `train_samples`."""
    return -(-config.batch_size // samples) * UNITS


def bytes_needed(config: Configuration, samples: int = SAMPLES) -> int:
    """The size of `Shared` of `samples.cu`."""
    layers, small = config.l_max, max(1, config.l_max - 1)
    warps = threads_of(config, samples) // UNITS
    places = warps * samples
    rows = (small + layers + 1) * places + small * UNITS + layers
    numbers = rows * UNITS + small * UNITS * (UNITS + 1) + 2 * warps * max(4, samples) * UNITS
    return -(-(numbers * (8 if config.dtype == "float64" else 4) + 4) // 16) * 16


class Launcher:
    """Trains trials of one `stack_key` on a GPU."""

    def __init__(self, gpu: Gpu, config: Configuration, samples: int = SAMPLES) -> None:
        """`samples` is how many a warp has. The benchmark tries others."""
        self._gpu, self._config, self._samples = gpu, config, samples
        self.whole = not fits(config, gpu.shared_bytes, samples)
        """True if `train_phases` trains, and not `train_samples`."""
        self.defines = ["DOUBLE"] if config.dtype == "float64" else []
        """The definitions with which `samples.cu` is compiled."""
        if not self.whole:
            self.defines += [
                f"WIDTHS={','.join(map(str, config.widths))}",
                f"BATCH={config.batch_size}",
                f"SAMPLES={samples}",
                f"F={F_CODES.index(config.activation)}",
                f"TEXTBOOK={int(config.arithmetic == 'textbook')}",
                f"BIASED={int(config.bias)}",
            ]
        self._program = gpu.program(SAMPLES_CU, self.defines)

    def prepare(
        self,
        trials: Structs,
        batches: Mapping[int, Minibatches],
        looks: tuple[int, bool] | None = None,
    ) -> "Prepared":
        """Writes down, on the GPU, that these trials' programs are to run over the minibatches of
        their seeds, the first one first.

        looks  the updates of the epoch that were made before, and whether these are its last, if
               weights that are not finite are to be looked for
        """
        device, seeds = self._gpu.device, list(batches)
        nonfinite, right = torch.zeros(2, len(trials.seeds), dtype=torch.int32, device=device)
        by_seed = as_tensor([batches[seed].struct for seed in seeds], device)
        which = torch.tensor([seeds.index(seed) for seed in trials.seeds]).int().to(device)
        done, last = looks or (0, False)
        addresses = [t.data_ptr() for t in (trials.structs, by_seed, which, nonfinite, right)]
        asked = as_tensor([_Launch(*addresses, done, looks is not None, last, CHUNK)], device)
        return Prepared(asked, nonfinite, right, (*trials[:2], by_seed, which))

    def start(self, work: "Prepared") -> None:
        """Starts what was prepared, and does not wait for it."""
        blocks = len(work.right)
        if not blocks:
            return  # a GPU refuses a launch without blocks
        if self.whole:
            how = ("train_phases", blocks, _PHASE_THREADS, 0)
        else:
            threads = threads_of(self._config, self._samples)
            shared = bytes_needed(self._config, self._samples)
            how = ("train_samples", blocks, threads, shared)
        self._program.launch(*how, [work.asked.data_ptr()])


class Prepared(NamedTuple):
    """A launch, and what it gives once the GPU has done it."""

    asked: Tensor
    """`Launch` of `samples.cu`."""
    nonfinite: Tensor
    """int32 [trials]: the update of the epoch after which weights were seen not to be finite, or
    0."""
    right: Tensor
    """int32 [trials]: how many predictions were right."""
    kept: tuple[Tensor, ...]
    """What the launch reads. It has to live until the GPU has done its work."""


class _Launch(Structure):
    """`Launch` of `samples.cu`."""

    _fields_ = (
        *((name, c_uint64) for name in ("trials", "batches", "seeds", "nonfinite", "right")),
        *((name, c_int32) for name in ("done", "looks", "last", "chunk")),
    )
