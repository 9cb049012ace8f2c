"""Captures work on a GPU as a CUDA graph: the GPU then starts its kernels without Python.

Graphs are for work whose shapes never change. This captures the updates of torch's own modules, see
https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs. `pcworker.kernels.cuda.torch_gpu`
captures those of the fixed sums.
"""

from collections.abc import Callable, Iterable
from functools import cache

import torch
from torch import Tensor

from pcworker.machine.garbage import not_collected

_WARM_UPS = 3
"""How often work runs before it is captured, as in torch's documentation: libraries choose their
kernels and take their memory at their first calls, which a graph must not hold."""


def captured(
    work: Callable[[], object], parameters: Iterable[Tensor], rest: Callable[[], object]
) -> Callable[[], None]:
    """Captures `work` as a CUDA graph. A call of what is returned runs it once.

    work        reads and writes the same tensors at every call, and never waits for the GPU
    parameters  all tensors that outlive a call and that `work` changes. They are afterwards as they
                were before
    rest        frees what a call of `work` leaves behind, such as gradients, so that the graph has
                memory of its own for it
    """
    parameters = list(parameters)
    before = [parameter.detach().cpu() for parameter in parameters]
    ours, side = torch.cuda.current_stream(), _side_stream()
    side.wait_stream(ours)
    with torch.cuda.stream(side):
        for _ in range(_WARM_UPS):
            work()
    ours.wait_stream(side)
    rest()
    with torch.no_grad():
        for parameter, values in zip(parameters, before, strict=True):
            parameter.copy_(values)
    graph = torch.cuda.CUDAGraph()
    # By default, a thread that pins minibatches meanwhile could make the capture fail.
    alone = torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local")
    with not_collected(), alone:
        work()
    return graph.replay


@cache
def _side_stream() -> torch.cuda.Stream:
    """The stream of all captures, because cuBLAS keeps memory for each stream that it has seen."""
    return torch.cuda.Stream()  # type: ignore[no-untyped-call]
