"""Tests of the layout in memory that an error takes over from what has arrived."""

import math

import pytest
import torch
from torch import Tensor

from pcworker.equations.layout import laid_out

DENSE = torch.arange(24.0).view(2, 3, 4)


@pytest.mark.parametrize(
    "like",
    [
        torch.empty(2, 3, 4),
        torch.empty(4, 3, 2).transpose(0, 2),
        torch.empty(2, 4, 3).transpose(1, 2),
        torch.empty(2, 3, 8)[:, :, ::2],
    ],
    ids=["dense", "reversed", "transposed", "with gaps"],
)
def test_all_values_stay_and_the_layout_is_the_others(like: Tensor) -> None:
    made = laid_out(DENSE, like)
    assert torch.equal(made, DENSE)
    assert made.stride() == like.stride()


@pytest.mark.parametrize("number", [1.5, 0.0, -0.0, math.inf, math.nan])
def test_equal_numbers_are_expanded(number: float) -> None:
    like = torch.empty(2, 1, 1).expand(2, 3, 4)
    values = torch.full((2, 3, 4), number)
    made = laid_out(values, like)
    assert made.stride() == like.stride()
    assert torch.equal(made.contiguous().view(torch.int32), values.view(torch.int32))


@pytest.mark.parametrize("other", [2.0, -0.0, math.nan])
def test_different_numbers_are_not(other: float) -> None:
    values = torch.zeros(2, 3)
    values[1, 2] = other
    assert laid_out(values, torch.empty(2, 1).expand(2, 3)) is values
    assert laid_out(values, torch.empty(()).expand(2, 3)) is values


def test_nothing_has_a_layout_too() -> None:
    for like in (torch.empty(0, 1).expand(0, 3), torch.empty(1, 3).expand(0, 3)):
        assert laid_out(torch.empty(0, 3), like).shape == (0, 3)
