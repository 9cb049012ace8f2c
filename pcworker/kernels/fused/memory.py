"""The memory of one trial that `fused.c` trains: its weights, and all that is computed on the way.

Arrays of a layer l are rows of samples, one row after the other. The rows of the output layer are
filled up with zeros to whole vectors. The hidden layers' rows are whole vectors anyway, because
`shape.fused_knows` takes no other widths.
"""

from itertools import pairwise

import torch
from torch import Tensor

from pcworker.data.randomness import initial_parameters
from pcworker.kernels.c_types import OPERATION_CODES, integers, pointers
from pcworker.kernels.fused import library
from pcworker.kernels.program import Program
from pcworker.machine.processor import VECTOR
from pcworker.trials.trial import Trial

_FLOATS = ("a", "d", "fx", "mu", "eps", "buffer")
"""The float32 arrays that every layer has: x = a + d, f(x), mu, eps, and room for a change of x."""
_COUNTERS = ("phi", "quiet")
"""The int32 arrays that every layer has for phi: the spikes, and for how many steps eps was 0."""


class Memory:
    """The arrays of one trial, and the struct with their addresses.

    `fused.c` gets bare addresses, which keep nothing alive. Every array is an attribute of this
    object, so that it lives as long as the object does.
    """

    def __init__(self, trial: Trial, batch: int) -> None:
        """`batch` is the number of samples in the largest minibatch."""
        config = self._config = trial.configuration
        widths = config.widths
        self.theta = [layer[0].contiguous() for layer in initial_parameters(config, trial.seed)]
        """theta^{l+1} [n_l, n_{l+1}] by l. The input layer's is the other way round."""
        self.theta[-1] = self.theta[-1].t().contiguous()
        self.strides = [-(-widths[0] // VECTOR) * VECTOR, *widths[1:-1]]
        """The number of places from one row of layer l to the next, by l."""
        rows = [(batch, stride) for stride in self.strides]
        self.layers = {name: [torch.zeros(shape) for shape in rows] for name in _FLOATS}
        """The float32 arrays [batch, stride] by name and by l."""
        self._counters = {
            name: [torch.zeros(shape, dtype=torch.int32) for shape in rows] for name in _COUNTERS
        }
        above = zip(self.strides, widths[1:], strict=True)
        self._transposed = [torch.zeros(m, stride) for stride, m in above]
        self._change = torch.zeros(max(n * m for n, m in pairwise(widths[:-1])))
        self._heard = torch.zeros(batch, max(self.strides))
        self.squares = torch.zeros(batch, widths[0], dtype=torch.float64)
        """[batch, n_0]: the squares of the output errors at t = 0, added up until they are set to
        zero."""

    def struct(self, program: Program, orders: library.Orders) -> library.TrialStruct:
        """`Trial` of `fused.c`, for this program. It is valid as long as this object lives."""
        config = self._config
        codes = [(OPERATION_CODES.index(operation), l) for operation, l in program]
        by_layer: dict[str, list[Tensor]] = {
            **self.layers,
            **self._counters,
            "theta": self.theta,
            "transposed": self._transposed,
        }
        return library.TrialStruct(
            l_max=config.l_max,
            instructions=len(codes),
            block=orders.block,
            t_d=config.t_d or 0,
            gamma=config.gamma or 0.0,
            sigma=config.sigma or 0.0,
            width=integers(config.widths),
            stride=integers(self.strides),
            order=integers(orders.by_layer),
            program=integers([value for code in codes for value in code]),
            gemm=library.gemm(),
            change=self._change.data_ptr(),
            heard=self._heard.data_ptr(),
            squares=self.squares.data_ptr(),
            **{name: pointers(tensors) for name, tensors in by_layer.items()},
        )
