"""The memory of one trial of `phases.c`: its weights, and all that is computed on the way.

A row of n numbers takes a whole number of vectors. Nothing that counts is ever read beyond n.
"""

from ctypes import Structure
from itertools import pairwise

import torch
from torch import Tensor

from pcworker.data.randomness import initial_parameters
from pcworker.kernels.c_types import OPERATION_CODES, integers, pointers
from pcworker.kernels.fixed.library import F_CODES, Build
from pcworker.kernels.program import Program
from pcworker.machine.processor import VECTOR
from pcworker.trials.trial import Trial

_NUMBERS = ("a", "d", "fx", "mu", "eps", "buffer")
"""The arrays that every layer has: x = a + d, f(x), mu, eps, and room for a change of x."""
_COUNTERS = ("phi", "quiet")
"""The int32 arrays that every layer has for phi: the spikes, and for how many steps eps was 0."""


class TrialMemory:
    """The arrays of one trial.

    `phases.c` gets bare addresses, which keep nothing alive. Every array is an attribute of this
    object, so that it lives as long as the object does.
    """

    def __init__(self, trial: Trial, batch: int) -> None:
        """`batch` is the number of samples in the largest minibatch."""
        config = self._config = trial.configuration
        widths, dtype = config.widths, getattr(torch, config.dtype)
        self.strides = [-(-width // VECTOR) * VECTOR for width in widths]
        """The number of places from one row of layer l to the next, by l."""
        pairs = list(zip(pairwise(widths), pairwise(self.strides), strict=True))
        self._theta = [torch.zeros(n, columns, dtype=dtype) for (n, _), (_, columns) in pairs]
        self._theta[-1] = torch.zeros(widths[-1], self.strides[-2], dtype=dtype)
        self._transposed = [torch.zeros(m, rows, dtype=dtype) for (_, m), (rows, _) in pairs[:-1]]
        self._bias = [torch.zeros(stride, dtype=dtype) for stride in self.strides[:-1]]
        rows = [(batch, stride) for stride in self.strides[:-1]]
        self.layers = {name: [torch.zeros(s, dtype=dtype) for s in rows] for name in _NUMBERS}
        """The arrays [batch, stride] by name and by l."""
        self._counters = {
            name: [torch.zeros(shape, dtype=torch.int32) for shape in rows] for name in _COUNTERS
        }
        self.squares = torch.zeros(batch, widths[0], dtype=torch.float64)
        """[batch, n_0]: the squares of the output errors at t = 0, added up until they are set to
        zero."""
        for ours, drawn in zip(
            self.parameters(), initial_parameters(config, trial.seed), strict=True
        ):
            for parameter, initial in zip(ours, drawn, strict=True):
                parameter.copy_(initial)

    def parameters(self) -> list[list[Tensor]]:
        """[weight [n_l, n_{l+1}]], or [weight, bias [n_l]], for l = 0 .. l_max - 1, as views."""
        widths = self._config.widths
        weights = [t[:, :m] for t, m in zip(self._theta[:-1], widths[1:], strict=False)]
        weights.append(self._theta[-1].t()[: widths[-2]])
        if not self._config.bias:
            return [[weight] for weight in weights]
        biases = [bias[:n] for bias, n in zip(self._bias, widths, strict=False)]
        return [list(both) for both in zip(weights, biases, strict=True)]

    def struct(self, program: Program, build: Build) -> Structure:
        """`Trial` of `phases.c`, for this program. It is valid as long as this object lives."""
        config = self._config
        codes = [(OPERATION_CODES.index(operation), l) for operation, l in program]
        by_layer: dict[str, list[Tensor]] = {
            **self.layers,
            **self._counters,
            "theta": self._theta,
            "transposed": self._transposed,
        }
        return build.trial(
            l_max=config.l_max,
            instructions=len(codes),
            t_d=config.t_d or 0,
            f=F_CODES.index(config.activation),
            textbook=config.arithmetic == "textbook",
            gamma=config.gamma or 0.0,
            sigma=config.sigma or 0.0,
            width=integers(config.widths),
            stride=integers(self.strides),
            program=integers([value for code in codes for value in code]),
            bias=pointers(self._bias) if config.bias else None,
            squares=self.squares.data_ptr(),
            **{name: pointers(tensors) for name, tensors in by_layer.items()},
        )
