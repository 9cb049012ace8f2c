"""A dataclass as the row of a table: its columns, their order and their values.

A field is a column that has the field's name and type. A field whose type is itself a dataclass
stands for all columns of that dataclass, so that a configuration, counts or metrics are not spelled
a second time; where its value is None, these columns are null. The marks `After`, `Without`,
`Prefix` and `Axis` say what is different about a field: `hidden_layers: Annotated[int,
After("network")]`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin, get_type_hints


class Bits(int):
    """The width of an integer column. Without this mark it is 32."""


class After(str):
    """The column before this one. Without this mark it is that of the field before."""


class Without(frozenset[str]):
    """Columns of the field's dataclass that the row does not have."""


class Prefix(str):
    """The text before the names of all columns of the field's dataclass."""


class Axis:
    """Marks a column that says, beside the configuration, what a row is about, such as `epoch`."""


Row = Mapping[str, Any]
"""The values of a row by column, as they are read from a table."""
Int64 = Annotated[int, Bits(64)]
"""The type of a field that is a column of 64-bit integers."""


class Column(NamedTuple):
    """A column of a table."""

    name: str
    kind: Any
    """The type of its values: str, bool, int, Int64, float, or a sequence or array of one."""
    after: After | None
    optional: bool
    """Whether a row may have no value in it."""
    is_axis: bool
    """Whether it has the mark `Axis`."""


class _Field(NamedTuple):
    name: str
    kind: Any
    """The type without None and without marks."""
    nested: bool
    """Whether that type is a dataclass."""
    optional: bool
    """Whether the value may be None."""
    after: After | None
    without: Without
    prefix: Prefix
    is_axis: bool


@cache
def columns(row: type) -> tuple[Column, ...]:
    """The columns of a row's dataclass, in their order.

    Raises TypeError if two columns have the same name, or a mark names a column that is not there.
    """
    found: list[Column] = []
    for column in sorted(_columns(row), key=lambda column: column.after is not None):
        names = [other.name for other in found]
        if column.name in names:
            raise TypeError(f"{row.__name__} has two columns {column.name}; give one a Prefix")
        if column.after and column.after not in names:
            raise TypeError(f"{row.__name__}.{column.name} stands after {column.after}: no column")
        found.insert(names.index(column.after) + 1 if column.after else len(found), column)
    return tuple(found)


def values(row: Any) -> dict[str, Any]:
    """The values of a row by column. A column that is missing here is null."""
    found: dict[str, Any] = {}
    kind: type = type(row)
    for field in _fields(kind):
        value = getattr(row, field.name)
        if not field.nested:
            found[field.name] = value
        elif value is not None:
            inner = values(value).items()
            found |= {field.prefix + name: v for name, v in inner if name not in field.without}
    return found


def _columns(row: type) -> Iterator[Column]:
    """The columns of a row's dataclass, each where its field stands."""
    for field in _fields(row):
        if not field.nested:
            yield Column(field.name, field.kind, field.after, field.optional, field.is_axis)
            continue
        inner = list(_columns(field.kind))
        if field.after or field.without - {column.name for column in inner}:
            raise TypeError(
                f"{row.__name__}.{field.name}: Without names columns of the field's dataclass, and "
                "After is for a single column"
            )
        for column in inner:
            if column.name not in field.without:
                optional = field.optional or column.optional
                yield column._replace(name=field.prefix + column.name, optional=optional)


@cache
def _fields(row: type) -> tuple[_Field, ...]:
    hints = get_type_hints(row, include_extras=True)
    return tuple(_field(field.name, hints[field.name]) for field in fields(row))


def _field(name: str, hint: Any) -> _Field:
    kind, marks = _stripped(hint)
    return _Field(
        name=name,
        kind=Int64 if marks.get(Bits) == 64 else kind,
        nested=is_dataclass(kind),
        optional=NoneType in marks,
        after=marks.get(After),
        without=marks.get(Without, Without()),
        prefix=marks.get(Prefix, Prefix()),
        is_axis=Axis in marks,
    )


def _stripped(hint: Any) -> tuple[Any, dict[type, Any]]:
    """A type without None and without marks, and the marks by their class. NoneType is one of the
    classes if the value may be None."""
    if get_origin(hint) is Annotated:
        kind, marks = _stripped(get_args(hint)[0])
        return kind, marks | {type(mark): mark for mark in get_args(hint)[1:]}
    if get_origin(hint) in (Union, UnionType):
        inner = [part for part in get_args(hint) if part is not NoneType]
        if len(inner) > 1:
            raise TypeError(f"a column has one type, and may be None; {hint} is several")
        kind, marks = _stripped(inner[0])
        return kind, marks | {NoneType: None}
    return hint, {}
