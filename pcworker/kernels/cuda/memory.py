"""The memory on a GPU of all trials that a kernel trains, as `samples.cu` reads it."""

from collections.abc import Sequence
from ctypes import Structure, c_double, c_float, c_int32, c_uint64
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pcworker.data.randomness import initial_parameters
from pcworker.kernels.c_types import OPERATION_CODES
from pcworker.kernels.fixed.library import F_CODES, trial_struct
from pcworker.kernels.program import Program
from pcworker.trials.trial import Trial

COUNT = "count"
"""The operation that counts right predictions. Only a GPU has it."""
_CODES = (*OPERATION_CODES, COUNT)
_COUNTERS = ("phi", "quiet")
_NUMBERS = ("a", "d", "fx", "mu", "eps", "buffer")
_TABLE = ("theta", "transposed", "bias", *_NUMBERS, *_COUNTERS)
"""The fields of `Trial` of `phases.c` that hold an address for each layer."""


def on_device(struct: type[Structure]) -> type[Structure]:
    """The same struct, but with whole numbers in place of addresses, which are a GPU's."""
    numbers = (c_int32, c_float, c_double)
    fields = [(name, kind if kind in numbers else c_uint64) for name, kind in fields_of(struct)]
    return type(struct.__name__, (Structure,), {"_fields_": fields})


def fields_of(struct: type[Structure]) -> list[tuple[str, type]]:
    """The names and types of a struct's fields."""
    return [(field[0], field[1]) for field in struct._fields_]


def as_tensor(structs: Sequence[Structure], device: torch.device) -> Tensor:
    """The bytes of these structs on a device."""
    return uploaded(np.frombuffer(b"".join(map(bytes, structs)), np.uint8), device)


def uploaded(values: np.ndarray, device: torch.device) -> Tensor:
    """A copy of an array on a device."""
    return torch.from_numpy(np.array(values)).to(device)


class Structs(NamedTuple):
    """Trials as `samples.cu` reads them."""

    structs: Tensor
    """`Trial` of `phases.c` for each of them, as bytes."""
    programs: Tensor
    """What the structs point to beside the trials' memory. It has to live as long."""
    seeds: list[int]


class TrialsMemory:
    """The arrays of trials of one `stack_key`. Each has a place, from 0 on."""

    def __init__(self, trials: Sequence[Trial], device: torch.device, whole: bool) -> None:
        """`whole` says whether `train_phases` is used, which keeps everything in this memory."""
        self.places = {trial: place for place, trial in enumerate(trials)}
        config = self._config = trials[0].configuration
        self._device, self._dtype = device, getattr(torch, config.dtype)
        real = c_double if config.dtype == "float64" else c_float
        self._struct = on_device(trial_struct(real))
        count, batch, widths = len(trials), config.batch_size, config.widths
        shapes = list(pairwise(widths))
        shapes[-1] = shapes[-1][::-1]  # a pixel's weights lie together
        self._arrays = {
            "theta": [self._zeros(count, *shape) for shape in shapes],
            "bias": [self._zeros(count, n) for n in widths[:-1]] if config.bias else [],
            **{name: self._rows(count, batch, torch.int32) for name in _COUNTERS},
        }
        if whole:
            self._arrays["transposed"] = [self._zeros(count, m, n) for n, m in shapes[:-1]]
            self._arrays |= {name: self._rows(count, batch, self._dtype) for name in _NUMBERS}
        self.squares = self._zeros(count, batch, widths[0], dtype=torch.float64)
        """[trials, B, n_0]: the squares of the output errors at t = 0, added up until they are set
        to zero."""
        self._widths = uploaded(np.array(widths, np.int32), device)
        self._table = self._addresses(count)
        for trial, place in self.places.items():
            self.write(place, initial_parameters(config, trial.seed))

    def parameters(self, place: int) -> list[list[Tensor]]:
        """theta^{l+1} for l = 0 .. l_max - 1, as views: [weight], or [weight, bias]."""
        weights = [theta[place] for theta in self._arrays["theta"]]
        weights[-1] = weights[-1].t()
        biases = [[bias[place]] for bias in self._arrays["bias"]] or [[] for _ in weights]
        return [[weight, *bias] for weight, bias in zip(weights, biases, strict=True)]

    def write(self, place: int, parameters: Sequence[Sequence[Tensor]]) -> None:
        """Copies parameters to a place."""
        for ours, theirs in zip(self.parameters(place), parameters, strict=True):
            for parameter, value in zip(ours, theirs, strict=True):
                parameter.copy_(value)

    def structs(self, programs: Sequence[tuple[Trial, Program]], rate: float) -> "Structs":
        """These trials with their programs, in this order.

        rate  the learning rate of an update that sums over the batch
        """
        codes = [
            [(_CODES.index(operation), l) for operation, l in program] for _, program in programs
        ]
        starts = np.cumsum([0, *(len(program) for program in codes)])
        flat = [pair for program in codes for pair in program] + [(0, 0)]  # one place is beyond
        kept = uploaded(np.array(flat, np.int32), self._device)
        structs = [
            self._trial(trial, len(program), kept.data_ptr() + 8 * int(start), rate)
            for (trial, _), program, start in zip(programs, codes, starts, strict=False)
        ]
        seeds = [trial.seed for trial, _ in programs]
        return Structs(as_tensor(structs, self._device), kept, seeds)

    def _trial(self, trial: Trial, instructions: int, program: int, rate: float) -> Structure:
        config, place = trial.configuration, self.places[trial]
        row = len(config.widths) - 1
        start = self._table.data_ptr() + 8 * place * len(_TABLE) * row
        table = {name: start + 8 * k * row for k, name in enumerate(_TABLE)}
        return self._struct(
            l_max=config.l_max,
            instructions=instructions,
            t_d=config.t_d or 0,
            f=F_CODES.index(config.activation),
            textbook=config.arithmetic == "textbook",
            gamma=config.gamma or 0.0,
            sigma=config.sigma or 0.0,
            rate=rate,
            width=self._widths.data_ptr(),
            stride=self._widths.data_ptr(),
            program=program,
            squares=self.squares[place].data_ptr(),
            **table | ({} if config.bias else {"bias": 0}),
        )

    def _addresses(self, count: int) -> Tensor:
        """int64 [trials, fields, l_max]: where each field of each layer lies, or 0."""
        table = np.zeros((count, len(_TABLE), self._config.l_max), np.int64)
        for k, name in enumerate(_TABLE):
            for l, array in enumerate(self._arrays.get(name, [])):
                table[:, k, l] = [array[place].data_ptr() for place in range(count)]
        return uploaded(table, self._device)

    def _rows(self, count: int, batch: int, dtype: torch.dtype) -> list[Tensor]:
        return [self._zeros(count, batch, n, dtype=dtype) for n in self._config.widths[:-1]]

    def _zeros(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        return torch.zeros(shape, dtype=dtype or self._dtype, device=self._device)
