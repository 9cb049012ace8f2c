"""Distances of networks from their twins, computed on the GPU where the networks are."""

import math
from collections.abc import Sequence
from ctypes import Structure, c_int32, c_uint64

import torch
from torch import Tensor

from pcworker.kernels.cuda.gpu import Gpu
from pcworker.kernels.cuda.memory import as_tensor
from pcworker.kernels.cuda.minibatches import DATA, THREADS
from pcworker.trials.measures import Distance, distance, to_numpy

_Network = Sequence[Sequence[Tensor]]
"""theta^{l+1} for l = 0 .. l_max - 1, on the GPU: [weight [n, m]], or [weight, bias [n]]."""


def distances(gpu: Gpu, pairs: Sequence[tuple[_Network, _Network]], dtype: str) -> list[Distance]:
    """The distance of the two networks of each pair: the bits of `measures.distance`."""
    program = gpu.program(DATA, ["DOUBLE"] if dtype == "float64" else [])
    layers = [both for ours, theirs in pairs for both in zip(ours, theirs, strict=True)]
    sums = torch.empty(len(layers), 3, dtype=torch.float64, device=gpu.device)
    structs = [_pair(*both, to.data_ptr()) for both, to in zip(layers, sums, strict=True)]
    asked = as_tensor(structs, gpu.device)
    program.launch("distances", len(layers), THREADS, 0, [asked.data_ptr()])
    rows = iter(sums.tolist())
    return [_distance(pair, [next(rows) for _ in pair[0]]) for pair in pairs]


def _distance(pair: tuple[_Network, _Network], layers: Sequence[Sequence[float]]) -> Distance:
    """The distance of a pair from [sum of squares, sum of absolute values, largest] by layer."""
    l2 = l1 = 0.0
    for squares, total, largest in layers:
        if largest > 0 and not 0 < squares < math.inf:  # the square of a number over- or underflows
            return distance(*(to_numpy(network) for network in pair))
        l2 += math.sqrt(squares)
        l1 += total
    return Distance(l2, l1, max(largest for _, _, largest in layers))


class _Pair(Structure):
    """`Pair` of `data.cu`."""

    _fields_ = (
        *((name, c_int32) for name in ("n", "m", "row", "column")),
        *((name, c_uint64) for name in ("ours", "theirs", "our_bias", "their_bias", "sums")),
    )


def _pair(ours: Sequence[Tensor], theirs: Sequence[Tensor], sums: int) -> _Pair:
    """The layer of two networks whose weights lie in the same order."""
    assert ours[0].stride() == theirs[0].stride(), "weights of a layer lie in one order"
    biases = [layer[1].data_ptr() if len(layer) > 1 else 0 for layer in (ours, theirs)]
    addresses = (ours[0].data_ptr(), theirs[0].data_ptr(), *biases, sums)
    return _Pair(*ours[0].shape, *ours[0].stride(), *addresses)
