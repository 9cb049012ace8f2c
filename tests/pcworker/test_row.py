"""Dataclasses as rows. Oracle: columns and values written out by hand."""

from collections.abc import Sequence
from dataclasses import dataclass, make_dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from pcworker.row import After, Int64, Prefix, Without, columns, values
from pcworker.store.parquet import schema_of


@dataclass(frozen=True)
class Size:
    width: int
    height: Int64


@dataclass(frozen=True)
class Made:
    place: Annotated[str, After("name")]
    by: str | None
    at: float


@dataclass(frozen=True)
class Thing:
    name: str
    outer: Annotated[Size, Prefix("outer_")]
    inner: Annotated[Size | None, Prefix("inner_"), Without(("height",))]
    whole: bool | None
    made: Made
    colour: Annotated[str | None, After("outer_width")] = None


def test_a_dataclass_stands_for_its_columns_and_marks_move_drop_and_rename_them() -> None:
    assert [column.name for column in columns(Thing)] == [
        "name", "place", "outer_width", "colour", "outer_height", "inner_width", "whole", "by",
        "at",
    ]  # fmt: skip


def test_the_values_of_a_row_have_the_names_of_its_columns() -> None:
    thing = Thing("box", Size(1, 2), Size(3, 4), True, Made("here", None, 0.5), "red")
    expected = {
        "name": "box", "place": "here", "outer_width": 1, "colour": "red", "outer_height": 2,
        "inner_width": 3, "whole": True, "by": None, "at": 0.5,
    }  # fmt: skip
    assert values(thing) == expected
    assert set(values(thing)) == {column.name for column in columns(Thing)}


def test_a_part_that_is_none_has_no_values() -> None:
    thing = Thing("box", Size(1, 2), None, None, Made("here", None, 0.5))
    assert "inner_width" not in values(thing)


def test_types_become_those_of_arrow() -> None:
    @dataclass
    class Every:
        text: str
        flag: bool | None
        short: int
        long: Int64 | None
        number: float
        texts: tuple[str, ...]
        shorts: list[int]
        numbers: Sequence[float] | None
        array: npt.NDArray[np.float64] | None

    assert schema_of(Every).types == [
        pa.string(), pa.bool_(), pa.int32(), pa.int64(), pa.float64(), pa.list_(pa.string()),
        pa.list_(pa.int32()), pa.list_(pa.float64()), pa.list_(pa.float64()),
    ]  # fmt: skip


def test_two_columns_of_one_name_are_refused() -> None:
    @dataclass
    class Twice:
        width: int
        size: Size

    with pytest.raises(TypeError, match="Twice has two columns width"):
        columns(Twice)


def test_a_mark_that_names_no_column_is_refused() -> None:
    @dataclass
    class Lost:
        width: Annotated[int, After("depth")]

    @dataclass
    class Whole:
        size: Annotated[Size, Without(("depth",))]

    @dataclass
    class Moved:
        size: Annotated[Size, After("width")]

    for row in (Lost, Whole, Moved):
        with pytest.raises(TypeError, match=row.__name__):
            columns(row)


@pytest.mark.parametrize("kind", [dict[str, float], bytes, int | str])
def test_a_type_that_no_column_has_is_refused(kind: Any) -> None:
    row = make_dataclass("Strange", [("value", kind)])
    with pytest.raises(TypeError, match="column"):
        schema_of(row)
