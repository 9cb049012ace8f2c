"""Trials trained by `fused.c`: where torch's own operations would give the same bits, and slower.

A trial is trained alone, many updates in one call, so its bits cannot depend on any neighbour, and
its weights stay in the processor's cache from one update to the next.
"""

import ctypes
from collections.abc import Mapping, Sequence
from ctypes import c_int32, c_void_p
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from pcworker.data.batches import Chunk
from pcworker.data.randomness import initial_parameters
from pcworker.equations.rules import RULES
from pcworker.equations.schedule import OPERATIONS, Block, steps
from pcworker.kernels.blocks import kind
from pcworker.kernels.fused import library
from pcworker.trials.configuration import Configuration
from pcworker.trials.trial import Trial

PADDING = 16
"""Places in a row of the output layer are a multiple of this: `LANES` of AVX-512."""

Program = tuple[tuple[str, int], ...]
"""Operations of `fused.c`, each of a layer l, for one weight update."""


@dataclass(frozen=True)
class Orders:
    """In which order the library that torch calls adds up its products, as far as it was found."""

    block: int
    """Pixels whose products are summed apart, before the blocks' sums are added up."""
    by_layer: tuple[int, ...]
    """`library.BY_FMA` or another, for the prediction of layer l = 0 .. l_max - 2."""


def program(trial: Trial) -> Program:
    """The trial's weight update; its schedule as one row of operations."""
    config = trial.configuration
    start = (*forward(config), ("clamp", 0))
    if not RULES[
        config.rule
    ].infers:  # Eq. 2-4: errors go back through all layers, then all weights move
        back = [("pull_back", l) for l in range(1, config.l_max)]
        return (*start, ("compare", 0), *back, *(("learn", l) for l in range(config.l_max)))
    return (
        *start,
        *(
            ("learn_gated" if part.gated else operation, part.layer)
            for step in steps([Block(kind(trial), 0, 1)], config.l_max)
            for operation in OPERATIONS
            for part in getattr(step, operation)
        ),
    )


def forward(config: Configuration) -> Program:
    """From the input to mu^0, t = 0."""
    hidden = [
        (operation, l)
        for l in range(config.l_max - 1, 0, -1)
        for operation in ("predict", "begin", "activate")
    ]
    return (*hidden, ("predict", 0))


class Gathered:
    """Some updates' batches of one seed, with the pixels that are not 0 listed for `fused.c`."""

    def __init__(self, chunk: Chunk, block: int) -> None:
        updates, batch, pixels = chunk.inputs.shape
        hidden = [normal.shape[2] for normal in reversed(chunk.noise)]
        self.shape = (batch, chunk.targets.shape[2], *hidden, pixels)
        """(B, n_0, hidden widths where there is noise, n_{l_max})"""
        blocks = -(-pixels // block)
        most = chunk.inputs.numel() + 1
        entry = np.dtype([("at", np.int32), ("value", np.float32)])
        sample_rows = np.empty(updates * blocks * batch + 1, np.int32)
        pixel_rows = np.empty(updates * pixels + 1, np.int32)
        samples, columns = np.empty(most, entry), np.empty(most, entry)
        targets, noise = chunk.targets.contiguous(), [n.contiguous() for n in chunk.noise]
        loaded = library.load()
        assert loaded is not None, "chosen where there is one"
        loaded.gather(
            *(c_int32(n) for n in (updates, batch, pixels, block)),
            c_void_p(chunk.inputs.contiguous().data_ptr()),
            *(c_void_p(a.ctypes.data) for a in (sample_rows, samples, pixel_rows, columns)),
        )
        by_layer = _pointers([None, *reversed(noise)]) if noise else None  # by l, from 1
        self._alive = (sample_rows, pixel_rows, samples, columns, targets, noise, by_layer)
        self.batches = library.Batches(
            updates,
            batch,
            *(a.ctypes.data for a in (sample_rows, samples, pixel_rows, columns)),
            targets.data_ptr(),
            by_layer,
        )


class FusedTrial:
    """One trial of any rule: its weights, and the memory for what it computes on the way."""

    def __init__(
        self,
        trial: Trial,
        orders: Orders,
        *,
        batch: int | None = None,
        only: Program | None = None,
    ) -> None:
        """
        batch  samples in the largest batch, if not the trial's own
        only   a program other than the trial's own
        """
        config = self.config = trial.configuration
        batch = batch or config.batch_size
        self.trial = trial
        self._theta = [layer[0].contiguous() for layer in initial_parameters(config, trial.seed)]
        self._theta[-1] = self._theta[-1].t().contiguous()
        self.squares = torch.zeros(batch, config.widths[0], dtype=torch.float64)
        """[B, n_0]: squares of the output errors at t = 0, added up until they are zeroed."""
        strides = [-(-config.widths[0] // PADDING) * PADDING, *config.widths[1:-1]]
        rows = [(batch, n) for n in strides]
        self._state = {
            name: [torch.zeros(shape) for shape in rows]
            for name in ("a", "d", "fx", "mu", "eps", "buffer")
        }
        whole = {name: [torch.zeros(s, dtype=torch.int32) for s in rows] for name in _PHI}
        transposed = [torch.zeros(m, n) for n, m in zip(strides, config.widths[1:], strict=True)]
        change = torch.zeros(max(n * m for n, m in pairwise(config.widths[:-1])))
        codes = [
            (library.INSTRUCTIONS.index(operation), l) for operation, l in only or program(trial)
        ]
        arrays = {
            "width": _integers(config.widths),
            "stride": _integers(strides),
            "order": _integers(orders.by_layer),
            "program": _integers([value for code in codes for value in code]),
        }
        lists = {**self._state, **whole, "theta": self._theta, "transposed": transposed}
        heard = torch.zeros(batch, max(strides))
        self._alive = (whole, transposed, change, heard)
        self._struct = library.TrialStruct(
            l_max=config.l_max,
            instructions=len(codes),
            block=orders.block,
            t_d=config.t_d or 0,
            gamma=config.gamma or 0.0,
            sigma=config.sigma or 0.0,
            gemm=library.gemm(),
            change=change.data_ptr(),
            heard=heard.data_ptr(),
            squares=self.squares.data_ptr(),
            **arrays,
            **{name: _pointers(tensors) for name, tensors in lists.items()},
        )

    def train(self, gathered: Gathered, rate: float) -> None:
        """The weight updates of these batches; `rate` is the learning rate of a sum over one."""
        self._require_fits(gathered)
        loaded = library.load()
        assert loaded is not None, "chosen where there is one"
        self._struct.rate = rate
        loaded.train(ctypes.byref(self._struct), ctypes.byref(gathered.batches))

    def _require_fits(self, gathered: Gathered) -> None:
        """`fused.c` looks at no shape: beyond the memory of one it would read another's."""
        (batch, *widths), (most, *ours) = gathered.shape, (len(self.squares), *self.config.widths)
        if batch > most or widths[0] != ours[0] or widths[1:] not in (ours[1:], ours[-1:]):
            raise ValueError(
                f"batches of {batch} samples, widths {widths} for a network of widths {ours} and "
                f"batches of at most {most}"
            )

    def parameters(self) -> list[list[Tensor]]:
        """[[theta^{l+1} [n_l, n_{l+1}]]] for l = 0 .. l_max - 1, as views."""
        return [*([theta] for theta in self._theta[:-1]), [self._theta[-1].t()]]

    def finite(self) -> bool:
        """Whether all parameters are finite."""
        return all(bool(torch.isfinite(theta).all()) for theta in self._theta)

    def everything(self, batch: int) -> list[Tensor]:
        """All that the last update, of a batch of this size, has computed, parameters included:
        as `Stack.everything`."""
        widths = self.config.widths
        parts = [
            self._state[name][l][:batch, : widths[l]]
            for name in ("mu", "eps", "fx", "buffer")
            for l in range(0 if name in ("mu", "eps") else 1, self.config.l_max)
        ]
        return parts + [p for layer in self.parameters() for p in layer]

    def prediction(self, l: int, batch: int) -> Tensor:
        """mu^l [batch, n_l] of the last update, a view."""
        return self._state["mu"][l][:batch, : self.config.widths[l]]

    def see(self, l: int, fx: Tensor) -> None:
        """Sets f(x^l) [B, n_l], for a program that does not compute it."""
        self._state["fx"][l][: len(fx)] = fx


class FusedStack:
    """Trials of one network, as `pcworker.kernels.stack.Stack`; one after the other."""

    def __init__(self, trials: Sequence[Trial], orders: Orders) -> None:
        self.members = [FusedTrial(trial, orders) for trial in trials]

    @property
    def trials(self) -> tuple[Trial, ...]:
        return tuple(member.trial for member in self.members)

    def train(self, gathered: Mapping[int, Gathered], rate: float) -> None:
        """Every trial's weight updates, from the batches of its seed."""
        for member in self.members:
            member.train(gathered[member.trial.seed], rate)

    def parameters(self, trial: int) -> list[list[Tensor]]:
        """theta^{l+1} of one trial, l = 0 .. l_max - 1, as views."""
        return self.members[trial].parameters()

    def squares_of(self, trial: int) -> Tensor:
        """[B, n_0]: squares of a trial's output errors since they were last zeroed."""
        return self.members[trial].squares

    def zero_squares(self) -> None:
        """Starts adding up anew."""
        for member in self.members:
            member.squares.zero_()

    def finite(self) -> list[bool]:
        """For each trial, whether all its parameters are finite."""
        return [member.finite() for member in self.members]

    def keep(self, wanted: Sequence[bool]) -> None:
        """Drops the trials that are not wanted."""
        self.members = [m for m, is_wanted in zip(self.members, wanted, strict=True) if is_wanted]


_PHI = ("phi", "quiet")


def _integers(values: Sequence[int]) -> "ctypes.Array[c_int32]":
    return (c_int32 * max(1, len(values)))(*values)


def _pointers(tensors: Sequence[Tensor | None]) -> "ctypes.Array[c_void_p]":
    addresses = [None if tensor is None else tensor.data_ptr() for tensor in tensors]
    return (c_void_p * len(tensors))(*addresses)
