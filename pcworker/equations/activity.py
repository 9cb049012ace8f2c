"""How the activity x^l of a layer is held, which decides how eps^l = x^l - mu^l is rounded.

There are two arithmetics, each with two ways of using memory. `Displacement` and `Textbook` write
into buffers that live as long as the stack, because in an operation of microseconds making a tensor
costs as much as the sums. `FreshDisplacement` and `FreshTextbook` make tensors when they are needed
and copy none, because a copy of an activity of megabytes costs time.
"""

from typing import Protocol

import torch
from torch import Tensor

from pcworker.equations.layout import laid_out


class Activity(Protocol):
    """x^l. The returned tensor is the result. `out` is memory that may be used for it."""

    def part(self, trials: slice) -> "Activity":
        """The activity of some of the trials, in the same memory."""

    def start(self, mu: Tensor, shift: Tensor | None) -> None:
        """x^l_0 = mu^l_0 + shift. None stands for 0, that is for condition C1."""

    def clamp(self, mu: Tensor, x: Tensor) -> None:
        """x^l_0 = x, whose prediction is `mu`."""

    def value(self, out: Tensor | None) -> Tensor:
        """x^l, which must not be written to."""

    def error(self, mu: Tensor, out: Tensor) -> Tensor:
        """x^l - mu^l, which must not be written to."""

    def move(self, change: Tensor) -> None:
        """x^l += change. The caller gives `change` away."""


class Displacement:
    """x = a + d, with the anchor a = mu at t = 0 and the displacement d = x - a.

    eps = d - (mu - a). Until an error reaches the layer, mu is a, bit for bit, and eps is d without
    a rounding. In the paper's own form, (mu + d) - mu, the last bits of d are lost.
    """

    def __init__(self, anchor: Tensor, displacement: Tensor) -> None:
        self._a, self._d = anchor, displacement

    def part(self, trials: slice) -> "Displacement":
        return Displacement(self._a[trials], self._d[trials])

    def start(self, mu: Tensor, shift: Tensor | None) -> None:
        self._a.copy_(mu)
        self._d.zero_() if shift is None else self._d.copy_(shift)

    def clamp(self, mu: Tensor, x: Tensor) -> None:
        self._a.copy_(mu)
        torch.sub(x, mu, out=self._d)

    def value(self, out: Tensor | None) -> Tensor:
        return torch.add(self._a, self._d, out=out)

    def error(self, mu: Tensor, out: Tensor) -> Tensor:
        torch.sub(mu, self._a, out=out)
        return torch.sub(self._d, out, out=out)

    def move(self, change: Tensor) -> None:
        self._d.add_(change)


class Textbook:
    """x itself, as in the paper and in other implementations, with eps = x - mu."""

    def __init__(self, x: Tensor) -> None:
        self._x = x

    def part(self, trials: slice) -> "Textbook":
        return Textbook(self._x[trials])

    def start(self, mu: Tensor, shift: Tensor | None) -> None:
        self._x.copy_(mu) if shift is None else torch.add(mu, shift, out=self._x)

    def clamp(self, mu: Tensor, x: Tensor) -> None:
        del mu
        self._x.copy_(x)

    def value(self, out: Tensor | None) -> Tensor:
        del out
        return self._x

    def error(self, mu: Tensor, out: Tensor) -> Tensor:
        return torch.sub(self._x, mu, out=out)

    def move(self, change: Tensor) -> None:
        self._x.add_(change)


class FreshDisplacement:
    """`Displacement` of one trial, without copies.

    The anchor is the first prediction itself, and there is no displacement before the activity
    moves. A prediction that was not computed anew is the anchor, so their difference, which is 0,
    is not computed either.
    """

    _a: Tensor
    _d: Tensor | None

    def part(self, trials: slice) -> "FreshDisplacement":
        del trials
        return self

    def start(self, mu: Tensor, shift: Tensor | None) -> None:
        self._a, self._d = mu, shift

    def clamp(self, mu: Tensor, x: Tensor) -> None:
        self._a, self._d = mu, x - mu

    def value(self, out: Tensor | None) -> Tensor:
        del out
        return self._a if self._d is None else self._a + self._d

    def error(self, mu: Tensor, out: Tensor) -> Tensor:
        del out
        d = _zero(mu) if self._d is None else self._d
        return d if mu is self._a else laid_out(d - (mu - self._a), d)

    def move(self, change: Tensor) -> None:
        # the old displacement stays as it is, because eps may be the same tensor
        if self._d is None:
            self._d = change
        elif 0 in change.stride():  # It may be expanded, and then it cannot be written to.
            self._d = laid_out(change + self._d, change)
        else:
            self._d = change.add_(self._d)


class FreshTextbook:
    """`Textbook` of one trial, without copies."""

    _x: Tensor

    def part(self, trials: slice) -> "FreshTextbook":
        del trials
        return self

    def start(self, mu: Tensor, shift: Tensor | None) -> None:
        self._x = mu if shift is None else mu + shift

    def clamp(self, mu: Tensor, x: Tensor) -> None:
        del mu
        self._x = x

    def value(self, out: Tensor | None) -> Tensor:
        del out
        return self._x

    def error(self, mu: Tensor, out: Tensor) -> Tensor:
        del out
        return self._x - mu

    def move(self, change: Tensor) -> None:
        self._x = change.add_(self._x)


def buffered(arithmetic: str, like: Tensor) -> Activity:
    """An activity in buffers of the shape of `like`.

    arithmetic  "displacement" or "textbook"
    """
    if arithmetic == "textbook":
        return Textbook(torch.zeros_like(like))
    return Displacement(torch.zeros_like(like), torch.zeros_like(like))


def fresh(arithmetic: str) -> Activity:
    """An activity that makes its tensors when it needs them.

    arithmetic  "displacement" or "textbook"
    """
    return FreshTextbook() if arithmetic == "textbook" else FreshDisplacement()


def _zero(like: Tensor) -> Tensor:
    """Zeros of the shape of `like`, in the memory of a single one."""
    return like.new_zeros(()).expand_as(like)
